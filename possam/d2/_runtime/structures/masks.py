"""Masks of the instances of one image, as bits or as polygons.

N: instances; H×W: the image.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch

from .boxes import Boxes

__all__ = ["BitMasks", "PolygonMasks", "polygons_to_bitmask"]


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """H×W bool array of the union of polygons, each a flat array x0, y0, x1, y1 …, in pixels."""
    if len(polygons) == 0:
        return np.zeros((height, width), dtype=bool)
    outlines = mask_util.frPyObjects(polygons, height, width)
    return mask_util.decode(mask_util.merge(outlines)).astype(bool)


class BitMasks:
    """One N×H×W bool tensor."""

    def __init__(self, tensor: torch.Tensor | np.ndarray):
        tensor = torch.as_tensor(tensor).bool()
        assert tensor.dim() == 3, f"masks are N×H×W, but the shape is {tuple(tensor.shape)}"
        self.image_size = tensor.shape[1:]
        self.tensor = tensor

    def to(self, *args: Any, **kwargs: Any) -> "BitMasks":
        """The masks on another device."""
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.tensor.device

    def __getitem__(self, item: Any) -> "BitMasks":
        """Index with an int (giving one mask), a slice, or a vector of bools or indices."""
        if isinstance(item, int):
            return BitMasks(self.tensor[item].unsqueeze(0))
        chosen = self.tensor[item]
        assert chosen.dim() == 3, f"indexing masks with {item} gives the shape {tuple(chosen.shape)}"
        return BitMasks(chosen)

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from self.tensor

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def nonempty(self) -> torch.Tensor:
        """N bools: whether any pixel is set."""
        return self.tensor.flatten(1).any(dim=1)

    @staticmethod
    def from_polygon_masks(
        polygon_masks: "PolygonMasks | list[list[np.ndarray]]", height: int, width: int
    ) -> "BitMasks":
        """Draw polygons into an image of ``height`` × ``width``."""
        polygons = polygon_masks.polygons if isinstance(polygon_masks, PolygonMasks) else polygon_masks
        masks = torch.zeros(len(polygons), height, width, dtype=torch.bool)
        for mask, outlines in zip(masks, polygons, strict=True):
            mask[:] = torch.from_numpy(polygons_to_bitmask(outlines, height, width))
        return BitMasks(masks)

    def get_bounding_boxes(self) -> Boxes:
        """The tight boxes around the masks; an empty mask has the box 0, 0, 0, 0."""
        corners = torch.zeros(len(self), 4, dtype=torch.float32)
        for axis, column in ((1, 0), (2, 1)):  # pixels set in any row give x, in any column y
            occupied = self.tensor.any(dim=axis)
            for index, line in enumerate(occupied):
                places = line.nonzero()
                if len(places):
                    corners[index, column], corners[index, column + 2] = places[0, 0], places[-1, 0] + 1
        return Boxes(corners)

    @staticmethod
    def cat(bitmasks_list: list["BitMasks"]) -> "BitMasks":
        """All masks of a list of `BitMasks` in one."""
        assert bitmasks_list and all(isinstance(one, BitMasks) for one in bitmasks_list)
        return BitMasks(torch.cat([one.tensor for one in bitmasks_list], dim=0))


class PolygonMasks:
    """N instances, each a list of polygons, each a flat float64 array x0, y0, x1, y1 … of at least three points.

    Polygons stay on the CPU whatever `to` is asked.
    """

    def __init__(self, polygons: list[Any]):
        """Raises ValueError where the nesting is not instances → polygons → numbers."""
        if not isinstance(polygons, list):
            raise ValueError(f"polygons are a list of instances, but {type(polygons).__name__} came")
        self.polygons: list[list[np.ndarray]] = [_outlines(instance) for instance in polygons]

    def to(self, *args: Any, **kwargs: Any) -> "PolygonMasks":
        """Itself."""
        return self

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        """The tight boxes around the instances."""
        corners = torch.zeros(len(self), 4, dtype=torch.float32)
        for row, instance in zip(corners, self.polygons, strict=True):
            points = torch.from_numpy(np.concatenate(instance).reshape(-1, 2)) if instance else torch.zeros(1, 2)
            row[:2], row[2:] = points.amin(dim=0), points.amax(dim=0)
        return Boxes(corners)

    def nonempty(self) -> torch.Tensor:
        """N bools: whether an instance has any polygon."""
        return torch.tensor([len(instance) > 0 for instance in self.polygons], dtype=torch.bool)

    def __getitem__(self, item: Any) -> "PolygonMasks":
        """Index with an int (giving one instance), a slice, a list of ints, or a bool or integer vector."""
        chosen = torch.arange(len(self))[item.cpu() if isinstance(item, torch.Tensor) else item]
        return PolygonMasks([self.polygons[index] for index in chosen.reshape(-1).tolist()])

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return iter(self.polygons)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def __len__(self) -> int:
        return len(self.polygons)

    @staticmethod
    def cat(polymasks_list: list["PolygonMasks"]) -> "PolygonMasks":
        """All instances of a list of `PolygonMasks` in one."""
        assert polymasks_list and all(isinstance(one, PolygonMasks) for one in polymasks_list)
        return PolygonMasks(list(itertools.chain.from_iterable(one.polygons for one in polymasks_list)))


def _outlines(instance: Any) -> list[np.ndarray]:
    if not isinstance(instance, list):
        raise ValueError(f"each instance is a list of polygons, but {type(instance).__name__} came")
    outlines = [
        np.asarray(polygon.cpu() if isinstance(polygon, torch.Tensor) else polygon, dtype=np.float64)
        for polygon in instance
    ]
    for outline in outlines:
        if len(outline) < 6 or len(outline) % 2:
            raise ValueError(f"a polygon is an even number of coordinates, at least 6, but {len(outline)} came")
    return outlines
