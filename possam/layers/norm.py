"""Normalization over the channels of a feature map."""

from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channel axis of a B×C×H×W map, at every position alone (ViTDet, section 3).

    A subclass of ``nn.LayerNorm``, so that optimizers which spare norms from weight decay recognize it.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        """B×C×H×W of any floating dtype → the same shape (in channels-last memory)."""
        rows = input.permute(0, 2, 3, 1)
        rows = F.layer_norm(rows, self.normalized_shape, self.weight, self.bias, self.eps)
        return rows.permute(0, 3, 1, 2)
