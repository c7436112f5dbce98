"""Maps of a backbone's stages as they are, and of the coarser strides that it lacks."""

# B images, H×W padded input; a map of stride s has ceil(H/s)×ceil(W/s) positions

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .feature_pyramid import STRIDES


class LastLevelPool(nn.Module):
    """Pass on a backbone's maps; a stride coarser than all of them is the last one's 2×2 max pooling, again and again.

    It has no parameters. Backbones with all of strides 4 to 32 are passed on unchanged (Detectron2's `LastLevelMaxPool`
    is the same for one extra level).

    Attributes:
        in_strides: the maps it reads.
        out_channels: channels of the maps that go out, by stride.
    """

    def __init__(self, *, in_channels: Mapping[int, int], out_strides: Sequence[int] = STRIDES) -> None:
        """
        Args:
            in_channels: of the backbone's maps, by stride.

        Raises:
            ValueError: a stride is neither among the maps nor coarser than all of them.
        """
        super().__init__()
        coarsest = max(in_channels)
        if missing := [stride for stride in out_strides if stride not in in_channels and stride < coarsest]:
            raise ValueError(
                f"maps of strides {sorted(out_strides)} are needed, but the backbone has {sorted(in_channels)}: "
                f"{missing} cannot be made by pooling"
            )
        self.coarsest = coarsest
        self.in_strides = tuple(sorted({*out_strides, coarsest} & set(in_channels)))
        self.out_channels = {stride: in_channels.get(stride, in_channels[coarsest]) for stride in sorted(out_strides)}

    def forward(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """{stride: B×C_s×H/s×W/s} of `in_strides`, at least → the same of `out_channels`."""
        found = dict(maps)
        stride = self.coarsest
        while stride < max(self.out_channels):
            found[2 * stride] = F.max_pool2d(found[stride], kernel_size=2, ceil_mode=True)
            stride *= 2
        return {stride: found[stride] for stride in self.out_channels}
