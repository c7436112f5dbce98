"""Tables of results."""

from collections.abc import Mapping
from typing import Any

__all__ = ["flatten_results_dict"]


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Nested names joined by slashes: {"a": {"b": 1}} → {"a/b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}/{inner}": leaf for inner, leaf in flatten_results_dict(value).items()})
        else:
            flat[name] = value
    return flat
