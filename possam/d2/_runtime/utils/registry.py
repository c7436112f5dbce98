"""Names to objects: the registry class, and objects looked up by their dotted path."""

import importlib
from typing import Any

from fvcore.common.registry import Registry

__all__ = ["Registry", "locate"]


def locate(name: str) -> Any:
    """Return the object behind a dotted path such as ``torch.optim.SGD`` or ``len``.

    Raises:
        ImportError: no module on the path can be imported, or the module lacks the rest of the path.
    """
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            if not hasattr(found, attribute):
                break
            found = getattr(found, attribute)
        else:
            return found
    found = importlib.import_module("builtins")
    for attribute in parts:
        if not hasattr(found, attribute):
            raise ImportError(f"nothing is importable under the name '{name}'")
        found = getattr(found, attribute)
    return found


def _convert_target_to_string(t: Any) -> str:
    """Write an object as the shortest dotted path from which `locate` finds it again."""
    modules = t.__module__.split(".")
    for length in range(1, len(modules)):
        short = ".".join([*modules[:length], t.__qualname__])
        try:
            if locate(short) is t:
                return short
        except ImportError:
            continue
    return f"{t.__module__}.{t.__qualname__}"
