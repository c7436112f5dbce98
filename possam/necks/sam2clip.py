"""SAM2CLIP: a small vision transformer that makes SAM's image embedding of the maps of a frozen CLIP (METHOD.md 3.2).

Shapes: B images, C_s channels of the map of stride s, W width of the blocks, C channels of the embedding; H×W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from possam.encoders.base import no_autocast, working_dtype
from possam.encoders.sam import resize_positions
from possam.encoders.sam_attention import run_block
from possam.layers import LayerNorm2d

__all__ = ["SAM2CLIP"]


class SAM2CLIP(nn.Module):
    """Student of SAM's image encoder over several maps of a CLIP, or over one (METHOD.md 3.2).

    Every map is brought to the embedding's stride and to W channels by one convolution with a bias: strided for finer
    maps, 1×1 at the stride itself, transposed for coarser ones. The level embedding is added to each, the sum gets a
    fixed position embedding, and SAM's blocks (window attention, the last one global) and SAM's neck follow.

    The output is that of SAM's encoder after its own neck, which it learns by mean squared error. Over a single map
    there is no level embedding.

    Attributes:
        strides: the maps it reads, finest first.
        stride, out_channels: of the embedding; the stride is in pixels.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        in_channels: Mapping[int, int],
        stride: int = 16,
        width: int = 1280,
        layers: int = 5,
        heads: int = 16,
        window: int = 14,
        grid: int = 64,
        out_channels: int = 256,
    ) -> None:
        """
        Args:
            in_channels: of CLIP's maps, by stride in pixels.
            window: side of the windows of all blocks but the last, in cells of the embedding.
            grid: side of the embedding in cells that the positions are for (1024 pixels at stride 16); other sizes have
                them resized. The position embedding is a buffer of zeros until it is loaded or `take_positions` gives
                it, and part of the state dict.

        Raises:
            ValueError: no map, a stride that is no multiple or divisor of the embedding's, a width that the heads do
                not divide, or no layer.
        """
        super().__init__()
        from segment_anything.modeling.image_encoder import Block  # here: importing the package stays fast

        self.strides = tuple(sorted(in_channels))
        odd = [other for other in self.strides if max(other, stride) % min(other, stride)]
        if not self.strides or odd or width % heads or layers < 1:
            raise ValueError(
                "SAM2CLIP needs maps whose strides are multiples or divisors of the embedding's, a width that the "
                f"heads divide and a layer, but got strides {list(self.strides)} for {stride}, width {width}, {heads} "
                f"heads and {layers} layers"
            )
        self.stride, self.out_channels = stride, out_channels
        self.levels = nn.ModuleList(_level(in_channels[other], width, other, stride) for other in self.strides)
        self.level_embedding = nn.Embedding(len(self.strides), width) if len(self.strides) > 1 else None
        self.register_buffer("positions", torch.zeros(1, grid, grid, width))
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=0 if index == layers - 1 else window,
                input_size=(grid, grid),
            )
            for index in range(layers)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(width, out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )

    def take_positions(self, positions: Tensor) -> None:
        """Copy SAM's position embedding, 1×h×w×W, resized to the grid of this one.

        Raises:
            ValueError: it is of another width.
        """
        if positions.shape[-1] != self.positions.shape[-1]:
            raise ValueError(
                f"SAM2CLIP has width {self.positions.shape[-1]}, but the position embedding {positions.shape[-1]}; use "
                "that of a SAM of its width (1280 is vit_h)"
            )
        self.positions.copy_(resize_positions(positions, *self.positions.shape[1:3]))

    def forward(self, maps: Mapping[int, Tensor]) -> Tensor:
        """{s: B×C_s×H/s×W/s float32} of `strides`, at least → B×C×H/stride×W/stride float32, SAM's image embedding.

        Raises:
            ValueError: a map is missing, or the maps are not those of one image size.
        """
        x = self._fuse(maps).permute(0, 2, 3, 1)
        x = x + resize_positions(self.positions, x.shape[1], x.shape[2])
        if torch.is_grad_enabled():
            for block in self.blocks:
                x = block(x)
        else:
            dtype = working_dtype(self.positions)
            with no_autocast(x.device):
                x = x.float().contiguous()
                for block in self.blocks:
                    x = run_block(block, x, dtype)
        embedding: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return embedding.float()

    def _fuse(self, maps: Mapping[int, Tensor]) -> Tensor:
        """B×W×h×w: the sum of all levels."""
        if missing := [stride for stride in self.strides if stride not in maps]:
            raise ValueError(f"SAM2CLIP reads maps of strides {list(self.strides)}, but got none of {missing}")
        levels = []
        for index, (stride, convolution) in enumerate(zip(self.strides, self.levels, strict=True)):
            level = convolution(maps[stride])
            if self.level_embedding is not None:
                level = level + self.level_embedding.weight[index][:, None, None]
            levels.append(level)
        if len({level.shape for level in levels}) > 1:
            sizes = {stride: tuple(maps[stride].shape) for stride in self.strides}
            raise ValueError(f"the maps must be of one image whose sides the strides divide, but got {sizes}")
        return torch.stack(levels).sum(0) if len(levels) > 1 else levels[0]


def _level(channels: int, width: int, stride: int, target: int) -> nn.Module:
    """The convolution of a map of `stride` to `width` channels at stride `target`."""
    ratio = max(stride, target) // min(stride, target)
    kind = nn.ConvTranspose2d if stride > target else nn.Conv2d
    return kind(channels, width, kernel_size=ratio, stride=ratio)
