"""One axis of masks that are resized twice: to the padded input, and, without its padding, to the output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ResizedAxis"]


class ResizedAxis:
    """Which of h cells make each of H pixels, and with which weights: H×h, never negative, each row's sum 1.

    Both resizings are linear interpolations (corners not aligned), so this is what they make of unit vectors.
    """

    def __init__(self, cells: int, padded: int, image: int, output: int, *, device: torch.device) -> None:
        """
        Args:
            cells: h, on which the masks are.
            padded, image: pixels of the padded input, and of the image at its start.
            output: H.
        """
        units = torch.eye(cells)[None]
        for size, kept in ((padded, image), (output, output)):
            if size != units.shape[-1]:
                units = F.interpolate(units, size=size, mode="linear", align_corners=False)
            units = units[..., :kept]
        weights = units[0].T.contiguous()
        used = weights > 0
        self._first = used.byte().argmax(dim=1).tolist()
        self._behind = (cells - used.flip(1).byte().argmax(dim=1)).tolist()
        self.weights = weights.to(device)

    def cells(self, pixels: slice) -> slice:
        """Which cells a run of pixels is made of; later pixels are never made of earlier cells."""
        return slice(self._first[pixels.start], self._behind[pixels.stop - 1])

    def part(self, pixels: slice) -> tuple[Tensor, slice]:
        """A run of pixels: their weights for the cells they are made of, and which these are."""
        cells = self.cells(pixels)
        return self.weights[pixels, cells], cells
