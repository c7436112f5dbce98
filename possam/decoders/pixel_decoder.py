"""Pixel decoder: deformable attention across three strides, then mask features at stride 4."""

# B images, C channels, H×W padded input; S positions of the strides 32, 16 and 8 laid end to end

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from possam.layers import Linear, MultiScaleDeformableAttention, PositionEmbeddingSine, level_reference_points

STRIDES = (32, 16, 8)
MASK_STRIDE = 4
PYRAMID_STRIDES = (MASK_STRIDE, *reversed(STRIDES))
_POSITIONS = 1024


class DeformableLayer(nn.Module):
    """Deformable self-attention and a feed-forward part, each with residual and LayerNorm after it."""

    def __init__(self, *, channels: int, heads: int, points: int, feedforward: int) -> None:
        super().__init__()
        self.attention = MultiScaleDeformableAttention(
            channels=channels, levels=len(STRIDES), heads=heads, points=points
        )
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = Linear(channels, feedforward)
        self.linear2 = Linear(feedforward, channels)
        self.norm2 = nn.LayerNorm(channels)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor, positions: Tensor, reference: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        """B×S×C with positions S×C and reference points S×2 → B×S×C."""
        x = self.norm1(x + self.attention(x + positions, reference, x, sizes))
        return self.norm2(x + torch.cat([self.linear2(self.linear1(part).relu_()) for part in _parts(x)], dim=1))


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """B×S×C in parts along S whose hidden layer fits the cache of a CPU; whole where gradients keep it all the same."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
        return (x,)
    return x.split(_POSITIONS, dim=1)


class DeformablePixelDecoder(nn.Module):
    """Mixes strides 8, 16 and 32 and makes stride-4 mask features (Mask2Former 3.2; METHOD.md 1.3).

    Level embeddings are an ``nn.Embedding``, so that optimizers can spare embeddings from weight decay.
    """

    def __init__(
        self,
        *,
        channels: int = 256,
        in_channels: Mapping[int, int] | None = None,
        layers: int = 6,
        heads: int = 8,
        points: int = 4,
        feedforward: int = 1024,
    ) -> None:
        """
        Args:
            channels: C, of all that goes out.
            in_channels: of the maps that come in, by stride; C for all where it is not given.

        Raises:
            ValueError: no layer, or no map of a stride.
        """
        super().__init__()
        self.in_channels = dict(in_channels or dict.fromkeys(PYRAMID_STRIDES, channels))
        if missing := [stride for stride in PYRAMID_STRIDES if stride not in self.in_channels]:
            raise ValueError(f"the pixel decoder needs maps of strides 4, 8, 16 and 32, but has none of {missing}")
        if layers < 1:
            raise ValueError(f"the pixel decoder needs at least one layer, but got layers={layers}")
        self.channels = channels
        groups = math.gcd(32, channels)
        self.input_projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(self.in_channels[stride], channels, kernel_size=1), nn.GroupNorm(groups, channels))
            for stride in STRIDES
        )
        self.position = PositionEmbeddingSine(channels)
        self.level_embedding = nn.Embedding(len(STRIDES), channels)
        self.layers = nn.ModuleList(
            DeformableLayer(channels=channels, heads=heads, points=points, feedforward=feedforward)
            for _ in range(layers)
        )
        self.lateral = nn.Sequential(
            nn.Conv2d(self.in_channels[MASK_STRIDE], channels, kernel_size=1, bias=False),
            nn.GroupNorm(groups, channels),
        )
        self.smooth = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(groups, channels),
            nn.ReLU(inplace=True),
        )
        self.mask_features = nn.Conv2d(channels, channels, kernel_size=1)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for module in self.input_projections.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        for module in (*self.lateral, *self.smooth, self.mask_features):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, pyramid: Mapping[int, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decodes a pyramid.

        Args:
            pyramid: {stride: B×in_channels[stride]×H/stride×W/stride} with strides 4, 8, 16 and 32; sizes that do
                not divide are taken as they come.

        Returns:
            Mask features B×C×H/4×W/4, and the maps of strides 32, 16 and 8, B×C×H/stride×W/stride each.

        Raises:
            ValueError: where a stride is missing or a map has another number of channels.
        """
        self._validate(pyramid)
        maps = [project(pyramid[stride]) for stride, project in zip(STRIDES, self.input_projections, strict=True)]
        sizes = [(x.shape[2], x.shape[3]) for x in maps]
        positions = [
            self.position(x).flatten(1).transpose(0, 1) + embedding
            for x, embedding in zip(maps, self.level_embedding.weight, strict=True)
        ]
        reference = level_reference_points(sizes, maps[0].device)
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
        position = torch.cat(positions)
        for layer in self.layers:
            tokens = layer(tokens, position, reference, sizes)
        levels = tokens.split([height * width for height, width in sizes], dim=1)
        scales = [x.transpose(1, 2).unflatten(2, size) for x, size in zip(levels, sizes, strict=True)]
        fine = self.lateral(pyramid[MASK_STRIDE])
        fine += F.interpolate(scales[-1], size=fine.shape[-2:], mode="bilinear", align_corners=False)
        # contiguous once here: every mask prediction and pooling flattens these features
        return self.mask_features(self.smooth(fine)).contiguous(), scales

    def _validate(self, pyramid: Mapping[int, Tensor]) -> None:
        for stride in PYRAMID_STRIDES:
            if stride not in pyramid:
                raise ValueError(f"the pixel decoder needs maps of strides 4, 8, 16 and 32, but got {sorted(pyramid)}")
            shape = tuple(pyramid[stride].shape)
            channels = self.in_channels[stride]
            if len(shape) != 4 or shape[1] != channels:
                raise ValueError(f"expected stride {stride} as B×{channels}×h×w, but got shape {shape}")
