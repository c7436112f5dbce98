"""Maps of several strides from one feature map, by resampling alone: a pyramid that learns nothing of scale."""

# B images, H×W padded input; a map of stride s has ceil(H/s)×ceil(W/s) positions

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .feature_pyramid import STRIDES, check_features, check_strides


class ResampledPyramid(nn.Module):
    """In place of the feature pyramid, for the ablation "no FPN" (METHOD.md 1.11).

    Every stride has one 1×1 convolution to ``channels``, and nothing else that learns: no deconvolution, no
    3×3 convolution, no normalization. Finer maps are interpolated bilinearly; a position of a coarser map is
    the mean of the positions it covers (at the lower and right border, of those that are there). The sources do not
    say how the paper's ablation feeds its decoder: this is the plainest way that keeps the decoder as it is.
    """

    def __init__(
        self, *, in_channels: int, channels: int, in_stride: int, out_strides: Sequence[int] = STRIDES
    ) -> None:
        super().__init__()
        check_strides(in_stride, out_strides)
        self.in_channels, self.in_stride = in_channels, in_stride
        self.projections = nn.ModuleDict(
            {str(stride): nn.Conv2d(in_channels, channels, kernel_size=1) for stride in out_strides}
        )

    def forward(self, features: Tensor) -> dict[int, Tensor]:
        """B×in_channels×h×w of stride ``in_stride`` → {stride: B×channels×H/stride×W/stride}.

        Raises:
            ValueError: for another number of channels or of dimensions.
        """
        check_features("the resampled pyramid", features, self.in_channels)
        # Projecting before resampling gives the same as after it, since both are linear and resampling weights
        # add up to 1; and it is cheaper, since the finest map has sixteen times the positions of F_sam.
        return {
            int(stride): self._resample(projection(features), int(stride))
            for stride, projection in self.projections.items()
        }

    def _resample(self, x: Tensor, stride: int) -> Tensor:
        if stride < self.in_stride:
            factor = self.in_stride // stride
            return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
        if stride > self.in_stride:
            ratio = stride // self.in_stride
            return F.avg_pool2d(x, ratio, ratio, ceil_mode=True, count_include_pad=False)
        return x
