"""Class embeddings of boxes from a feature pyramid (METHOD.md 3.3)."""

# N boxes, C channels of the pyramid, D width of the class embedding; H×W pixels of the padded image

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["RoIEmbedding", "levels_of_boxes"]

CANONICAL = 14
"""A box whose √(w·h) is this many cells of the finest map, or up to twice as many, is read from that map."""


def levels_of_boxes(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """The level each box is read from: N×4 XYXY in pixels → N int64, numbers of `strides` (finest first).

    floor(log2(√(w·h)/s₀ + 1e-6)), clamped to the levels, s₀ = 14 cells of the finest map: 56 pixels at stride 4.
    """
    scale = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
    return (scale / (CANONICAL * strides[0]) + 1e-6).log2().floor().long().clamp(0, len(strides) - 1)


class RoIEmbedding(nn.Module):
    """RoIAlign → 1×1 convolution without bias, ReLU → mean over the cells: a vector without negative values.

    An empty box has the vector 0, whose cosine with every text is 0.
    """

    def __init__(self, *, channels: int, embed_dim: int, cells: int = 12) -> None:
        """
        Args:
            channels: C. embed_dim: D.
            cells: side of the grid that a box is divided into.
        """
        super().__init__()
        self.cells = cells
        self.projection = nn.Conv2d(channels, embed_dim, 1, bias=False)

    def forward(self, maps: Mapping[int, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Embed the boxes of every image of a batch.

        Args:
            maps: {s: B×C×H/s×W/s}, finest first.
            boxes: for each of the B images N×4 float XYXY in pixels of the padded image.

        Returns:
            (ΣN)×D float32, the boxes of the first image first; not normalized.
        """
        strides = list(maps)
        from torchvision.ops import roi_align  # here: importing the package stays fast

        every = torch.cat([each.float() for each in boxes])
        images = torch.cat([each.new_full((len(each), 1), index) for index, each in enumerate(boxes)])
        rois = torch.cat([images.float(), every], dim=1)
        levels = levels_of_boxes(every, strides)
        channels = self.projection.in_channels
        aligned = every.new_zeros(len(every), channels, self.cells, self.cells)
        for level, stride in enumerate(strides):
            chosen = (levels == level).nonzero()[:, 0]
            # Without a box, too: every level has a gradient, which distributed training needs.
            found = roi_align(
                maps[stride].float(), rois[chosen], self.cells, spatial_scale=1 / stride, sampling_ratio=0, aligned=True
            )
            aligned = aligned.index_copy(0, chosen, found)
        return self.projection(aligned).relu().mean((2, 3)).float()
