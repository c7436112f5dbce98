"""Feature pyramid over the maps of a backbone (Lin et al. 2017; METHOD.md 3.3)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

__all__ = ["TopDownPyramid"]


class TopDownPyramid(FeaturePyramidNetwork):
    """torchvision's feature pyramid network, by stride and with Xavier's initialization.

    Lateral 1×1 convolutions (`inner_blocks`), nearest upsampling and addition from the coarsest map down, output 3×3
    convolutions (`layer_blocks`); all have a bias, and none a norm or an activation.

    Attributes:
        strides: the maps it reads and gives, finest first.
    """

    def __init__(self, *, in_channels: Mapping[int, int], channels: int) -> None:
        """
        Args:
            in_channels: of the backbone's maps, by stride.
        """
        self.strides = tuple(sorted(in_channels))
        super().__init__([in_channels[stride] for stride in self.strides], channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:  # type: ignore[override]
        """{s: B×C_s×H/s×W/s} of `strides`, at least → {s: B×channels×H/s×W/s}."""
        return dict(super().forward({stride: maps[stride] for stride in self.strides}))
