"""How good a query's mask is: estimated from the query, or taken to be perfect."""

# B images, Q queries, C channels

import torch
from torch import Tensor, nn

from possam.layers import MLP


class IoUHead(MLP):
    """P_iou = sigmoid(MLP(query)): of 3 layers (METHOD.md 1.4), or of one, a linear map (METHOD.md 2.7)."""

    def __init__(self, channels: int, layers: int = 3) -> None:
        super().__init__(channels, channels, 1, layers)

    def forward(self, x: Tensor) -> Tensor:
        """B×Q×C → B×Q float32 in (0, 1)."""
        return super().forward(x).squeeze(-1).float().sigmoid()


class PerfectIoU(nn.Module):
    """s_i = 1 for every mask: what is left where no IoU is learned (METHOD.md 1.11)."""

    def forward(self, x: Tensor) -> Tensor:
        """B×Q×C → B×Q float32 ones, without a gradient."""
        return torch.ones(x.shape[:-1], device=x.device)


def build_iou_head(channels: int, learned: bool, layers: int = 3) -> nn.Module:
    """The head of a decoder, or its stand-in."""
    return IoUHead(channels, layers) if learned else PerfectIoU()
