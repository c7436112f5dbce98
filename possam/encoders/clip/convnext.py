"""Dense features of a ConvNeXt tower (METHOD.md 1.5).

Shapes: B images, N pooled vectors, D_v the trunk's last width, D width of CLIP's joint space.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from open_clip.timm_model import TimmModel
from timm.layers import GELU, Mlp
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn

from possam.encoders.base import working_dtype
from possam.encoders.clip.tower import DenseTower, register_tower
from possam.encoders.linear import linear, runs_eagerly_on_cpu

# Of the feed-forward network, so many cells at a time that their hidden layer stays in the cache.
_CELLS = 1024


@register_tower(ConvNeXt, "ConvNeXt")
class ConvNeXtTower(DenseTower):
    """stem → stages → norm_pre are the dense features; a pooled vector goes through the tower's own two heads.

    The tower ends in mean pool → LayerNorm → projection, so a vector averaged over *any* set of cells is a legal
    input of that ending, and averaging over all of them is exactly the tower's own image embedding.
    """

    def __init__(self, visual: nn.Module) -> None:
        assert isinstance(visual, TimmModel)
        trunk = visual.trunk
        assert isinstance(trunk, ConvNeXt)
        pool = trunk.head.global_pool.pool_type
        if pool != "avg" or hasattr(visual.head, "pool"):
            raise ValueError(
                f"a ConvNeXt tower must end in a mean pool to be pooled over masks, but this one pools with "
                f"{pool or type(visual.head.pool).__name__!r}"
            )
        self._visual = visual
        self.stride = int(str(trunk.feature_info[-1]["reduction"]))
        self.feature_dim = int(trunk.num_features)

    @property
    def level_channels(self) -> dict[int, int]:
        # A dilated stage keeps the stride of the one before it; of stages with one stride the last counts.
        info = self._visual.trunk.feature_info
        return {int(stage["reduction"]): int(stage["num_chs"]) for stage in info}

    def dense(self, images: Tensor) -> Tensor:
        return self.levels(images, [self.stride])[self.stride]

    def levels(self, images: Tensor, strides: Collection[int]) -> dict[int, Tensor]:
        trunk = self._visual.trunk
        in_place = not torch.is_grad_enabled() and runs_eagerly_on_cpu(images) and working_dtype(images) == images.dtype
        x = trunk.stem(images)
        maps: dict[int, Tensor] = {}
        for stage, info in zip(trunk.stages, trunk.feature_info, strict=True):
            x = stage.downsample(x)
            for block in stage.blocks:
                x = run_block(block, x) if in_place and _is_common(block) else block(x)
            if (stride := int(info["reduction"])) in strides:
                maps[stride] = x
        if self.stride in strides:
            maps[self.stride] = trunk.norm_pre(x)
        return maps

    def project(self, pooled: Tensor) -> Tensor:
        # A 1×1 map: the head's mean pool becomes the identity, its norm and projection stay.
        return self._visual.head(self._visual.trunk.forward_head(pooled[:, :, None, None]))


def run_block(block: ConvNeXtBlock, x: Tensor) -> Tensor:
    """B×C×H×W → B×C×H×W: what `block` says, in the memory of `x` if channels are innermost there. No gradient."""
    x = x.contiguous(memory_format=torch.channels_last)
    seen = block.conv_dw(x).permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    sums = x.permute(0, 2, 3, 1).view(seen.shape)
    for part, target in zip(seen.split(_CELLS), sums.split(_CELLS), strict=True):
        hidden = linear(block.norm(part), block.mlp.fc1.weight, block.mlp.fc1.bias, gelu=True)
        target.addcmul_(linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias), block.gamma)
    return x


def _is_common(block: ConvNeXtBlock) -> bool:
    """Whether a block is of the kind that `run_block` knows, which all official weights' are."""
    return (
        not block.use_conv_mlp
        and type(block.mlp) is Mlp
        and isinstance(block.mlp.act, GELU | nn.GELU)
        and getattr(block.mlp.act, "approximate", "none") == "none"
        and isinstance(block.mlp.norm, nn.Identity)
        and isinstance(block.shortcut, nn.Identity)
        and block.gamma is not None
    )
