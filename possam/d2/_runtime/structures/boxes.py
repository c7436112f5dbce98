"""Axis-aligned boxes.

N: number of boxes. Coordinates are absolute pixels as floats, x before y, x1 and y1 exclusive.
"""

from enum import IntEnum, unique

import torch

__all__ = ["BoxMode", "Boxes"]


@unique
class BoxMode(IntEnum):
    """What the numbers of a box mean.

    XYXY: two corners; XYWH: first corner and size; XYWHA: center, size, and angle in degrees counter-clockwise.
    ABS counts pixels, REL fractions of the image.
    """

    XYXY_ABS = 0
    XYWH_ABS = 1
    XYXY_REL = 2
    XYWH_REL = 3
    XYWHA_ABS = 4


class Boxes:
    """N boxes in one N×4 float32 tensor of (x0, y0, x1, y1), indexed and moved like a tensor."""

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

    def to(self, device: torch.device):
        """The boxes on another device; their dtype is always float32."""
        return Boxes(self.tensor.to(device=device))

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
