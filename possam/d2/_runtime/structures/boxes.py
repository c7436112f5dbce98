"""Axis-aligned boxes.

N, M: numbers of boxes. Coordinates are absolute pixels as floats, x before y, x1 and y1 exclusive.
"""

from enum import IntEnum, unique
from typing import Any

import numpy as np
import torch

__all__ = ["BoxMode", "Boxes", "pairwise_intersection", "pairwise_ioa", "pairwise_iou"]


@unique
class BoxMode(IntEnum):
    """What the numbers of a box mean.

    XYXY: two corners; XYWH: first corner and size; XYWHA: centre, size, and angle in degrees counter-clockwise.
    ABS counts pixels, REL fractions of the image. All can be named; the first two can be converted.
    """

    XYXY_ABS = 0
    XYWH_ABS = 1
    XYXY_REL = 2
    XYWH_REL = 3
    XYWHA_ABS = 4

    @staticmethod
    def convert(box: Any, from_mode: "BoxMode", to_mode: "BoxMode") -> Any:
        """Convert one box (list or tuple of 4 numbers) or many (N×4 array or tensor).

        Returns:
            The converted box or boxes, in the type they came in; the input itself is left as it was.

        Raises:
            NotImplementedError: there is no conversion between these two modes.
        """
        if from_mode == to_mode:
            return box
        source, target = BoxMode(from_mode), BoxMode(to_mode)
        if {source, target} != {BoxMode.XYXY_ABS, BoxMode.XYWH_ABS}:
            raise NotImplementedError(f"there is no conversion from {source.name} to {target.name}")
        sign = 1 if target == BoxMode.XYXY_ABS else -1
        if isinstance(box, (list, tuple)):
            assert len(box) == 4, f"a single box has 4 numbers, but {box} came"
            kind: Any = type(box)
            return kind(_sum_of_ends(torch.tensor(box)[None], sign)[0].tolist())
        if isinstance(box, np.ndarray):
            return _sum_of_ends(torch.from_numpy(box), sign).numpy()
        return _sum_of_ends(box, sign)


def _sum_of_ends(boxes: torch.Tensor, sign: int) -> torch.Tensor:
    """Turn the last two columns from sizes to corners (+1) or from corners to sizes (-1)."""
    return torch.cat([boxes[:, :2], boxes[:, 2:] + sign * boxes[:, :2]], dim=1)


class Boxes:
    """N boxes in one N×4 float32 tensor of (x0, y0, x1, y1), indexed and moved like a tensor.

    The class can be compiled by TorchScript.
    """

    def __init__(self, tensor: torch.Tensor):
        """``tensor`` is N×4, in any dtype; anything else that `torch.as_tensor` takes is put on the CPU."""
        if isinstance(tensor, torch.Tensor):
            rows = tensor.to(torch.float32)
        else:
            rows = torch.as_tensor(tensor, dtype=torch.float32, device=torch.device("cpu"))
        if rows.numel() == 0:
            rows = rows.reshape((-1, 4))
        assert rows.dim() == 2 and rows.size(-1) == 4, rows.size()
        self.tensor = rows

    def clone(self) -> "Boxes":
        """A copy with its own storage."""
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device):
        """The boxes on another device; their dtype is always float32."""
        return Boxes(self.tensor.to(device=device))

    def area(self) -> torch.Tensor:
        """N areas."""
        size = self.tensor[:, 2:] - self.tensor[:, :2]
        return size[:, 0] * size[:, 1]

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move every corner into an image of ``box_size`` = (height, width), in place."""
        assert torch.isfinite(self.tensor).all(), "boxes contain infinite numbers or NaN"
        height, width = box_size
        x = self.tensor[:, 0::2].clamp(min=0, max=width)
        y = self.tensor[:, 1::2].clamp(min=0, max=height)
        self.tensor = torch.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), dim=1)

    def nonempty(self, threshold: float = 0.0) -> torch.Tensor:
        """N bools: whether both sides are longer than ``threshold``."""
        size = self.tensor[:, 2:] - self.tensor[:, :2]
        return (size > threshold).all(dim=1)

    def __getitem__(self, item) -> "Boxes":
        """Index with an int (giving one box), a slice, or a vector of bools or indices."""
        if isinstance(item, int):
            return Boxes(self.tensor[item].view(1, -1))
        chosen = self.tensor[item]
        assert chosen.dim() == 2, f"indexing boxes with {item} does not give a matrix"
        return Boxes(chosen)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"

    def get_centers(self) -> torch.Tensor:
        """N×2 centres (x, y)."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Stretch the coordinates, in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: list["Boxes"]) -> "Boxes":
        """All boxes of a list of `Boxes` in one, with its own storage."""
        tensors = [boxes.tensor for boxes in boxes_list]
        return cls(torch.cat(tensors, dim=0) if len(tensors) > 0 else torch.empty(0))

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.tensor.device

    @torch.jit.unused
    def __iter__(self):
        yield from self.tensor


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """N×M areas common to each pair."""
    first, second = boxes1.tensor[:, None], boxes2.tensor
    size = torch.min(first[..., 2:], second[:, 2:]) - torch.max(first[..., :2], second[:, :2])
    return size.clamp(min=0).prod(dim=2)


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """N×M intersection over union, 0 where nothing is shared."""
    common = pairwise_intersection(boxes1, boxes2)
    union = boxes1.area()[:, None] + boxes2.area() - common
    return torch.where(common > 0, common / union, torch.zeros_like(common))


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> torch.Tensor:
    """N×M intersection over the area of the second box, 0 where nothing is shared."""
    common = pairwise_intersection(boxes1, boxes2)
    return torch.where(common > 0, common / boxes2.area(), torch.zeros_like(common))
