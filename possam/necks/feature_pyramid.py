"""Feature pyramid from one feature map (ViTDet's simple feature pyramid)."""

# B images, H×W padded input; a map of stride s has ceil(H/s)×ceil(W/s) positions

import math
from collections.abc import Sequence

from torch import Tensor, nn

from possam.layers import LayerNorm2d

STRIDES = (4, 8, 16, 32)


def check_strides(in_stride: int, out_strides: Sequence[int]) -> None:
    """Raise ValueError unless all strides are among `STRIDES` and at least one goes out."""
    if in_stride not in STRIDES:
        raise ValueError(f"in_stride must be one of {STRIDES}, but got {in_stride}")
    if not out_strides or not set(out_strides) <= set(STRIDES):
        raise ValueError(f"out_strides must be some of {STRIDES}, but got {tuple(out_strides)}")


def check_features(who: str, features: Tensor, channels: int) -> None:
    """Raise ValueError unless features are B×channels×h×w."""
    if features.dim() != 4 or features.shape[1] != channels:
        raise ValueError(f"{who} expects B×{channels}×h×w features, but got shape {tuple(features.shape)}")


class FeaturePyramid(nn.Module):
    """Maps of several strides, all from one map and none from another (ViTDet, section 3; METHOD.md 1.2).

    Upwards by 2×2 deconvolutions that halve the channels, with LayerNorm and GELU between them; downwards
    by max-pooling; then 1×1 and 3×3 convolutions to ``channels``, each followed by LayerNorm over channels.
    Odd sizes are rounded up when pooled, so that a map never vanishes.
    """

    def __init__(
        self, *, in_channels: int, channels: int, in_stride: int, out_strides: Sequence[int] = STRIDES
    ) -> None:
        super().__init__()
        check_strides(in_stride, out_strides)
        largest = max(1, in_stride // min(out_strides))
        if in_channels % largest:
            raise ValueError(
                f"in_channels must be divisible by {largest}, since channels halve with every deconvolution "
                f"from stride {in_stride} to {min(out_strides)}, but got {in_channels}"
            )
        self.in_channels = in_channels
        self.stages = nn.ModuleDict(
            {str(stride): _stage(in_channels, channels, in_stride, stride) for stride in out_strides}
        )

    def forward(self, features: Tensor) -> dict[int, Tensor]:
        """B×in_channels×h×w of stride ``in_stride`` → {stride: B×channels×H/stride×W/stride}.

        Raises:
            ValueError: for another number of channels or of dimensions.
        """
        check_features("the feature pyramid", features, self.in_channels)
        return {int(stride): stage(features) for stride, stage in self.stages.items()}


def _stage(in_channels: int, channels: int, in_stride: int, out_stride: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    width = in_channels
    if out_stride < in_stride:
        doublings = int(math.log2(in_stride // out_stride))
        for step in range(doublings):
            parts.append(nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2))
            width //= 2
            if step < doublings - 1:
                parts += [LayerNorm2d(width), nn.GELU()]
    elif out_stride > in_stride:
        ratio = out_stride // in_stride
        parts.append(nn.MaxPool2d(kernel_size=ratio, stride=ratio, ceil_mode=True))
    # no bias before a norm that subtracts nothing but its own mean: LayerNorm has its own
    parts += [
        nn.Conv2d(width, channels, kernel_size=1, bias=False),
        LayerNorm2d(channels),
        nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(channels),
    ]
    return nn.Sequential(*parts)
