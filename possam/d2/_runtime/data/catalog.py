"""Datasets by name: how to read them, and what is known about them."""

import types
from collections import UserDict
from collections.abc import Callable
from typing import Any

_Names = list[str]  # inside the catalogs, `list` is a method


class _DatasetCatalog(UserDict):
    """Name → function without arguments that returns a dataset, usually a list of dicts."""

    def register(self, name: str, func: Callable[[], Any]) -> None:
        """Add a dataset; ``func`` must return the same whenever it is called."""
        assert callable(func), f"a dataset is registered as a function, but {type(func)} came for '{name}'"
        assert name not in self, f"the dataset '{name}' is registered already"
        self[name] = func

    def get(self, name: str) -> Any:  # type: ignore[override]
        """Read a dataset; KeyError, listing the names there are, if there is none of this name."""
        if name not in self:
            raise KeyError(f"no dataset is registered as '{name}'; there are: {', '.join(self) or 'none'}")
        return self[name]()

    def list(self) -> _Names:
        """All names."""
        return [*self.keys()]

    def remove(self, name: str) -> None:
        """Forget a dataset."""
        self.pop(name)


DatasetCatalog = _DatasetCatalog()


class Metadata(types.SimpleNamespace):
    """Facts about a dataset, set and read as attributes; a fact once set cannot change."""

    name: str = "N/A"  # so that an error message about a nameless object finds one

    def __getattr__(self, key: str) -> Any:
        known = ", ".join(self.__dict__) or "nothing"
        raise AttributeError(f"the metadata of dataset '{self.name}' has no '{key}'; it has: {known}")

    def __setattr__(self, key: str, val: Any) -> None:
        if key in self.__dict__:
            old = self.__dict__[key]
            assert old == val, f"'{key}' of dataset '{self.name}' is {old} already and cannot become {val}"
            return
        super().__setattr__(key, val)

    def set(self, **kwargs: Any) -> "Metadata":
        """Set several facts; returns itself."""
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """A fact, or ``default``."""
        return getattr(self, key, default)


class _MetadataCatalog(UserDict):
    """Name → `Metadata`, made empty when first asked for, the same object ever after."""

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """The metadata of a dataset, which need not be registered."""
        assert name, "a dataset's name is empty"
        if name not in self:
            self[name] = Metadata(name=name)
        return self[name]

    def list(self) -> _Names:
        """All names asked for so far."""
        return [*self.keys()]

    def remove(self, name: str) -> None:
        """Forget what is known about a dataset."""
        self.pop(name)


MetadataCatalog = _MetadataCatalog()
