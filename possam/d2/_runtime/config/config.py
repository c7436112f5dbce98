"""The configuration node, the default tree, and `configurable`."""

import functools
import inspect
from collections.abc import Callable
from typing import IO, Any

from fvcore.common.config import CfgNode as _CfgNode

from ..utils.file_io import PathManager


class CfgNode(_CfgNode):
    """fvcore's node (YAML files with ``_BASE_``), which also checks the config's VERSION when merging a file."""

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        return PathManager.open(filename, "r", encoding="utf-8")

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Merge a YAML file, after its ``_BASE_`` files, into this node.

        Args:
            cfg_filename: path or URL.
            allow_unsafe: allow YAML tags that run code, as Detectron2 does by default: only load configs you trust.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file declares another config version than this node.
            KeyError: the file has a key this node lacks.
        """
        if not PathManager.isfile(cfg_filename):
            raise FileNotFoundError(f"there is no config file '{cfg_filename}'")
        loaded = type(self)(self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe))
        version = loaded.get("VERSION", self.VERSION)
        if version != self.VERSION:
            raise ValueError(
                f"'{cfg_filename}' is a version {version} config, but only version {self.VERSION} can be read here. "
                "Convert it with Detectron2's upgrade_config first."
            )
        self.merge_from_other_cfg(loaded)


def get_cfg() -> CfgNode:
    """A fresh copy of the default config."""
    from .defaults import _C

    return _C.clone()


def configurable(init_func: Callable) -> Callable:
    """Let a class's ``__init__`` also take a config in place of its arguments.

    The class supplies ``from_config(cls, cfg, …)``, which returns keyword arguments; called with a config (first
    argument, or ``cfg=``), the constructor gets those, overridden by any further keywords. Called without a config,
    nothing changes.
    """

    @functools.wraps(init_func)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        from_config = getattr(type(self), "from_config", None)
        need = f"{type(self).__name__} uses @configurable, so it must have a classmethod 'from_config(cls, cfg)'"
        if from_config is None:
            raise AttributeError(need)
        if not inspect.ismethod(from_config):
            raise TypeError(need)
        if _has_cfg(args, kwargs):
            init_func(self, **_explicit_arguments(from_config, args, kwargs))
        else:
            init_func(self, *args, **kwargs)

    return wrapped


def _has_cfg(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return isinstance(args[0] if args else kwargs.get("cfg"), _CfgNode)


def _explicit_arguments(from_config: Callable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What `from_config` makes of the config, plus the keywords it does not take itself."""
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        raise TypeError(f"the first argument of {from_config.__qualname__} must be called 'cfg'")
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(parameter.kind in variadic for parameter in parameters.values()):
        return from_config(*args, **kwargs)
    taken = {name: value for name, value in kwargs.items() if name in parameters}
    rest = {name: value for name, value in kwargs.items() if name not in parameters}
    return {**from_config(*args, **taken), **rest}
