"""Trees of settings, and the same as values by full key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["flatten", "nest", "plain"]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by full key, such as "SOLVER.BASE_LR"; an empty section stays one.

    Raises:
        ValueError: a name within the tree has a dot.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if "." in name:
            raise ValueError(f"{name!r:.200} has a dot; write a section as a mapping, and what is in it below.")
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of values by full key, in which a section takes the place of a value of its name."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            if not isinstance(node.get(section), dict):
                node[section] = {}
            node = node[section]
        node[last] = plain(value)
    return tree


def plain(value: Any) -> Any:
    """The same with lists for tuples, which YAML does not have."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
