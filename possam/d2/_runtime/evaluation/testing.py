"""Tables of results: flattened and printed."""

from collections.abc import Mapping
from typing import Any

from ..utils.logger import runtime_logger

__all__ = ["flatten_results_dict", "print_csv_format"]

logger = runtime_logger(__name__)


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log main metrics as lines to copy into a spreadsheet; names with a hyphen (per class) are left out."""
    assert isinstance(results, Mapping) or not len(results), results
    for task, values in results.items():
        if not isinstance(values, Mapping):
            logger.info(f"copypaste: {task}={values}")
            continue
        shown = {name: value for name, value in values.items() if "-" not in name}
        logger.info(f"copypaste: Task: {task}")
        logger.info("copypaste: " + ",".join(shown))
        logger.info("copypaste: " + ",".join(f"{value:.4f}" for value in shown.values()))


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Nested names joined by slashes: {"a": {"b": 1}} → {"a/b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}/{inner}": leaf for inner, leaf in flatten_results_dict(value).items()})
        else:
            flat[name] = value
    return flat
