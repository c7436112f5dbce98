"""Dense features of a ConvNeXt tower (METHOD.md 1.5).

Shapes: B images, N pooled vectors, D_v the trunk's last width, D width of CLIP's joint space.
"""

from __future__ import annotations

from open_clip.timm_model import TimmModel
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from possam.encoders.clip.tower import DenseTower, register_tower


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

    def dense(self, images: Tensor) -> Tensor:
        return self._visual.trunk.forward_features(images)

    def project(self, pooled: Tensor) -> Tensor:
        # A 1×1 map: the head's mean pool becomes the identity, its norm and projection stay.
        return self._visual.head(self._visual.trunk.forward_head(pooled[:, :, None, None]))
