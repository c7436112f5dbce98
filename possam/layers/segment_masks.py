"""Masks kept in less memory than one map each: those that do not overlap, and those that are repeated.

Shapes: T masks, N places that repeat or leave out some of them, H×W the image.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["RepeatedMasks", "SegmentMasks"]


class SegmentMasks:
    """T masks as one H×W map, a T-th of the memory: what loading processes send, and what goes to a device.

    Stands as a field of `Instances` where a T×H×W tensor would, and gives it as `tensor`.
    """

    def __init__(self, index: Tensor, values: Tensor) -> None:
        """
        Args:
            index: H×W integers.
            values: T integers: mask t is where the map has the value t of them.
        """
        self.index, self.values = index, values

    def __len__(self) -> int:
        return len(self.values)

    def to(self, *args: Any, **kwargs: Any) -> SegmentMasks:
        """The same on another device; takes the arguments of `Tensor.to`."""
        return SegmentMasks(self.index.to(*args, **kwargs), self.values.to(*args, **kwargs))

    @property
    def tensor(self) -> Tensor:
        """The masks, T×H×W bool, made anew at every call."""
        return self.index == self.values.to(self.index.dtype)[:, None, None]


class RepeatedMasks:
    """N masks that are some of T, each kept once.

    Stands as a field of `Instances` where an N×H×W tensor would, and gives it as `tensor`.
    """

    def __init__(self, masks: Tensor, places: Tensor) -> None:
        """
        Args:
            masks: T×H×W bool.
            places: N int64 in [0, T): mask n is `masks[places[n]]`.
        """
        self.masks, self.places = masks, places

    def __len__(self) -> int:
        return len(self.places)

    def to(self, *args: Any, **kwargs: Any) -> RepeatedMasks:
        """The same on another device; takes the arguments of `Tensor.to`."""
        return RepeatedMasks(self.masks.to(*args, **kwargs), self.places.to(*args, **kwargs))

    @property
    def tensor(self) -> Tensor:
        """The masks, N×H×W bool, made anew at every call."""
        return self.masks[self.places]
