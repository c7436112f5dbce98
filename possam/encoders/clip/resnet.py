"""Dense features of a ModifiedResNet tower: the Spatial Adapter (METHOD.md 1.5 and 2.3).

Shapes: B images, N pooled vectors, D_v = 32 × the tower's width, D width of CLIP's joint space, T = cells + 1 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.nn import functional as F

from possam.encoders.clip.tower import DenseTower, register_tower

STRIDES = (4, 8, 16, 32)
"""Of layer1 to layer4, in pixels of the tower's input."""


@register_tower(ModifiedResNet, "ModifiedResNet")
class ResNetTower(DenseTower):
    """layer4 is the dense map; the attention pool's value and output projections, applied as 1×1 convolutions,
    take it to CLIP space. Both are linear, so projecting after pooling equals pooling the projected map.

    The attention pool sees T tokens, the cells and their mean, each with a position embedding of its own.
    - *Mean ("class") token*: only its query decides which cells the pool looks at. Here the mask decides, so the
      token is dropped.
    - *Position embedding*: replaced by its mean over the T tokens, one constant vector. A mask's meaning must not
      depend on where it lies or on the input's size, yet the value projection was trained on cells that carry
      position, so the constant keeps its inputs centered where they were.
    With both, a whole native-size map pooled and projected equals the attention pool with uniform attention. Without
    `pool_position` there is no position at all, as METHOD.md 2.3 has it; the equality then holds for a pool whose
    positions have a mean of zero.
    """

    stride = STRIDES[-1]
    has_attention_pool = True

    def __init__(self, visual: nn.Module) -> None:
        assert isinstance(visual, ModifiedResNet)
        self._visual = visual
        self.feature_dim = int(visual.attnpool.v_proj.in_features)

    @property
    def level_channels(self) -> dict[int, int]:
        return {stride: self.feature_dim * stride // self.stride for stride in STRIDES}

    def dense(self, images: Tensor) -> Tensor:
        return self.levels(images, [self.stride])[self.stride]

    def levels(self, images: Tensor, strides: Collection[int]) -> dict[int, Tensor]:
        visual = self._visual
        features = visual.stem(images)
        maps = {}
        for stride, layer in zip(STRIDES, (visual.layer1, visual.layer2, visual.layer3, visual.layer4), strict=True):
            features = layer(features)
            if stride in strides:
                maps[stride] = features
        return maps

    def attend(self, features: Tensor, inside: Tensor) -> Tensor:
        pool = self._visual.attnpool
        height, width = features.shape[-2:]
        cells = features.flatten(2).transpose(1, 2)  # B×S×D_v
        query = cells.mean(dim=1, keepdim=True) + pool.positional_embedding[:1]
        tokens = cells + self._cell_positions(height, width)
        # A mask without a cell would have no token to attend to.
        allowed = inside.flatten(2) | ~inside.flatten(2).any(-1, keepdim=True)
        q, k, v = (
            layer(x).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
            for layer, x in ((pool.q_proj, query), (pool.k_proj, tokens), (pool.v_proj, tokens))
        )
        q = q.expand(-1, -1, allowed.shape[1], -1)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed[:, None])
        return pool.c_proj(attended.transpose(1, 2).flatten(2))

    @property
    def pool_side(self) -> int:
        return math.isqrt(len(self._visual.attnpool.positional_embedding) - 1)

    def pool(self, features: Tensor) -> Tensor:
        pooled: Tensor = self._visual.attnpool(features)
        return pooled

    def _cell_positions(self, height: int, width: int) -> Tensor:
        """Positions of the pool's cells, resized bilinearly to a grid: (height·width)×D_v."""
        cells = self._visual.attnpool.positional_embedding[1:]
        grid = cells.T.reshape(1, -1, self.pool_side, self.pool_side)
        return F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)[0].flatten(1).T

    def project(self, pooled: Tensor) -> Tensor:
        pool = self._visual.attnpool
        if self.pool_position:
            pooled = pooled + pool.positional_embedding.mean(dim=0)
        return pool.c_proj(pool.v_proj(pooled))
