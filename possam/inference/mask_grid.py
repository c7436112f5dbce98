"""Masks as small as the decoder made them, and any part of them as large as a person asked for.

Shapes: Q masks, n of them chosen; h×w the decoder's size; H×W the output; T tiles of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .resized_axis import ResizedAxis

__all__ = ["MaskGrid", "Tile"]

# On a CPU a small tile saves work; on a device a call costs more than the work.
_TILES_A_SIDE, _SMALLEST_SIDE = 32, 24
_SIDE_ON_DEVICE = 256


class Tile(NamedTuple):
    """A part of the output."""

    rows: slice
    columns: slice

    @property
    def area(self) -> int:
        """Pixels in it."""
        return (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start)


class MaskGrid:
    """Q masks that are restored on demand: to the padded input, without its padding, to the output (METHOD.md 1.10).

    Both steps are bilinear, so a restored logit is a weighted mean of a few of the decoder's and lies between the
    least and the greatest of them. That bounds what a mask can be in a part of the output before it is restored there.
    """

    def __init__(
        self,
        logits: Tensor,
        *,
        padded_size: tuple[int, int] | None = None,
        image_size: tuple[int, int] | None = None,
        output_size: tuple[int, int] | None = None,
    ) -> None:
        """
        Args:
            logits: Q×h×w float, covering the padded input.
            padded_size: (height, width) in pixels of the padded input; by default h×w.
            image_size: of the image inside it, at its upper left; by default all of it.
            output_size: wanted; by default the image's.

        Raises:
            ValueError: `logits` is not Q×h×w, or the image is empty or larger than its padded input.
        """
        if logits.dim() != 3:
            raise ValueError(f"expected mask logits of shape Q×h×w, got {tuple(logits.shape)}")
        grid = (logits.shape[1], logits.shape[2])
        padded = padded_size or grid
        image = image_size or padded
        self.logits, self.size = logits, output_size or image
        self._sizes = {"padded_size": padded, "image_size": image, "output_size": self.size}
        if min(*image, *self.size) < 1:
            raise ValueError(f"sizes must be at least 1×1, got image {image} and output {self.size}")
        if image[0] > padded[0] or image[1] > padded[1]:
            raise ValueError(f"an image of {image} pixels (height, width) cannot lie in an input of {padded}")
        self._rows, self._columns = (
            ResizedAxis(*lengths, device=logits.device) for lengths in zip(grid, padded, image, self.size, strict=True)
        )

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.logits.device

    def restore(self, queries: Tensor | Sequence[int] | None = None, tile: Tile | None = None) -> Tensor:
        """Logits of the size wanted, n×H×W float32, or of a tile of it.

        Args:
            queries: indices of the n masks; by default all.
            tile: by default the whole output.
        """
        rows, columns = tile or (slice(0, length) for length in self.size)
        row_weights, row_cells = self._rows.part(rows)
        column_weights, column_cells = self._columns.part(columns)
        cells = self.logits[:, row_cells, column_cells]
        if queries is not None:
            cells = cells[queries]
        with torch.autocast(self.device.type, enabled=False):
            return row_weights @ (cells.float() @ column_weights.T)

    def inside(self) -> Tensor:
        """Where the masks are, Q×H×W bool: where their logits are positive."""
        result = torch.empty((len(self), *self.size), dtype=torch.bool, device=self.device)
        for tile in self.tiles:
            place = (slice(None), *tile)
            result[place] = self.restore(tile=tile) > 0
        return result

    def at_image_size(self) -> MaskGrid:
        """The same masks at the size of the image in the padded input."""
        return MaskGrid(self.logits, **{key: self._sizes[key] for key in ("padded_size", "image_size")})

    def to(self, device: torch.device) -> MaskGrid:
        """The same masks on another device; themselves where they are there."""
        return self if device == self.device else MaskGrid(self.logits.to(device), **self._sizes)

    @cached_property
    def tiles(self) -> list[Tile]:
        """The output cut up, T tiles: left to right, then top to bottom."""
        rows, columns = self._cuts
        return [Tile(own, across) for own in rows for across in columns]

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest that each mask's logits can be in each tile: Q×T float32 twice."""
        return self._extremes(torch.amin), self._extremes(torch.amax)

    @cached_property
    def _cuts(self) -> list[list[slice]]:
        cuts = []
        for length in self.size:
            side = max(_SMALLEST_SIDE, -(-length // _TILES_A_SIDE)) if self.device.type == "cpu" else _SIDE_ON_DEVICE
            cuts.append([slice(start, min(start + side, length)) for start in range(0, length, side)])
        return cuts

    def _extremes(self, extreme: Callable[..., Tensor]) -> Tensor:
        rows, columns = self._cuts
        bands = torch.stack([extreme(self.logits[:, self._rows.cells(own)], dim=1) for own in rows], dim=1)
        cells = torch.stack([extreme(bands[..., self._columns.cells(own)], dim=-1) for own in columns], dim=-1)
        return cells.flatten(1).float()
