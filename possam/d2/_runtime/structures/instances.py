"""Instances of one image, with any fields of equal length."""

import itertools
from typing import Any

import torch

__all__ = ["Instances"]


class Instances:
    """A table: one row an instance, one column a field (boxes, masks, classes, scores …).

    Fields are set and read as attributes (``x.scores = …``) or by `set` and `get`; names starting with an
    underscore are not fields. Indexing selects rows of every field.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any):
        """``image_size`` is (height, width); further keywords are fields."""
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self._image_size

    def __setattr__(self, name: str, val: Any) -> None:
        assign = super().__setattr__ if name.startswith("_") else self.set
        assign(name, val)

    def __getattr__(self, name: str) -> Any:
        # While unpickling there are no fields yet, and asking for them must not come back here.
        fields = self.__dict__.get("_fields", {})
        if name not in fields:
            raise AttributeError(f"these Instances have no field '{name}'; they have: {', '.join(fields) or 'none'}")
        return fields[name]

    def set(self, name: str, value: Any) -> None:
        """Set a field; its length must be that of the fields already there."""
        if self._fields:
            assert len(self) == len(value), f"field '{name}' has length {len(value)}, the others {len(self)}"
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Whether there is such a field."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Drop a field."""
        del self._fields[name]

    def get(self, name: str) -> Any:
        """A field; KeyError if there is none."""
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """Name → field; changes to it change the Instances."""
        return self._fields

    def _mapped(self, function: Any) -> "Instances":
        new = Instances(self._image_size)
        for name, value in self._fields.items():
            new.set(name, function(value))
        return new

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """Call ``to`` of every field that has one."""
        return self._mapped(lambda value: value.to(*args, **kwargs) if hasattr(value, "to") else value)

    def __getitem__(self, item: Any) -> "Instances":
        """The chosen rows; an int gives Instances of length 1, and IndexError outside the range."""
        if type(item) is int:
            if not -len(self) <= item < len(self):
                raise IndexError(f"index {item} is out of range for {len(self)} instances")
            # A slice keeps the row dimension of every kind of field; -1 must reach to the very end.
            item = slice(item, item + 1 if item != -1 else None)
        return self._mapped(lambda value: value[item])

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without fields have no length")

    def __iter__(self) -> Any:
        raise NotImplementedError("Instances cannot be iterated over: index them, or iterate over a field")

    @staticmethod
    def cat(instance_lists: list["Instances"]) -> "Instances":
        """Rows of several Instances of the same image size and fields, one below the other."""
        assert instance_lists and all(isinstance(one, Instances) for one in instance_lists)
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        assert all(one.image_size == first.image_size for one in instance_lists), "image sizes differ"
        joined = Instances(first.image_size)
        for name in first.get_fields():
            joined.set(name, _join([one.get(name) for one in instance_lists]))
        return joined

    def __str__(self) -> str:
        height, width = self._image_size
        length = len(self) if self._fields else 0
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return (
            f"{type(self).__name__}(num_instances={length}, image_height={height}, image_width={width}, "
            f"fields=[{fields}])"
        )

    __repr__ = __str__


def _join(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(values, dim=0)
    if isinstance(first, list):
        return list(itertools.chain.from_iterable(values))
    if hasattr(type(first), "cat"):
        return type(first).cat(values)
    raise ValueError(f"fields of type {type(first).__name__} cannot be joined: they need a method 'cat'")
