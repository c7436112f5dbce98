"""Dense features of a ModifiedResNet tower: OPSNet's Spatial Adapter (METHOD.md 1.5 and 2).

Shapes: B images, N pooled vectors, D_v = 32 × the tower's width, D width of CLIP's joint space, T = cells + 1 tokens.
"""

from __future__ import annotations

from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from possam.encoders.clip.tower import DenseTower, register_tower


@register_tower(ModifiedResNet, "ModifiedResNet")
class ResNetTower(DenseTower):
    """layer4 is the dense map; the attention pool's value and output projections, applied as 1×1 convolutions,
    take it to CLIP space. Both are linear, so projecting after pooling equals pooling the projected map.

    The attention pool sees T tokens, the cells and their mean, each with a position embedding of its own.
    - *Mean ("class") token*: only its query decides which cells the pool looks at. Here the mask decides, so the
      token is dropped.
    - *Position embedding*: replaced by its mean over the T tokens, one constant vector. A mask's meaning must not
      depend on where it lies or on the input's size, yet the value projection was trained on cells that carry
      position, so the constant keeps its inputs centred where they were.
    With both, a whole native-size map pooled and projected equals the attention pool with uniform attention.
    """

    stride = 32

    def __init__(self, visual: nn.Module) -> None:
        assert isinstance(visual, ModifiedResNet)
        self._visual = visual
        self.feature_dim = int(visual.attnpool.v_proj.in_features)

    def dense(self, images: Tensor) -> Tensor:
        visual = self._visual
        features = visual.stem(images)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            features = layer(features)
        return features

    def project(self, pooled: Tensor) -> Tensor:
        pool = self._visual.attnpool
        return pool.c_proj(pool.v_proj(pooled + pool.positional_embedding.mean(dim=0)))
