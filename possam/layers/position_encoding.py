"""Sine position encoding of a two-dimensional grid."""

import math

import torch
from torch import Tensor, nn


class PositionEmbeddingSine(nn.Module):
    """Sines and cosines of the normalized row and column (DETR, appendix A.4).

    The first half of the channels codes the row, the second half the column; even channels are sines,
    odd ones cosines, of wavelengths from 2π to ``temperature``·2π. Rows and columns are counted from 1
    and scaled so that the last one is at 2π: the encoding stretches with the map.
    """

    def __init__(self, channels: int, temperature: float = 10000.0) -> None:
        super().__init__()
        if channels < 4 or channels % 4:
            raise ValueError(
                f"channels must be divisible by 4, for sine and cosine of row and column, but got {channels}"
            )
        self.channels = channels
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        """B×?×H×W features, read only for their size and device → C×H×W float32, the same for every image."""
        height, width = features.shape[-2:]
        rows = self._axis(height, features.device)
        columns = self._axis(width, features.device)
        return torch.cat([rows[:, :, None].expand(-1, height, width), columns[:, None, :].expand(-1, height, width)])

    def _axis(self, length: int, device: torch.device) -> Tensor:
        """(C/2)×length encoding of one axis."""
        half = self.channels // 2
        position = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        position = position / (length + 1e-6) * (2 * math.pi)
        exponent = torch.arange(0, half, 2, dtype=torch.float32, device=device) / half
        angle = position[None] / self.temperature ** exponent[:, None]
        return torch.stack([angle.sin(), angle.cos()], dim=1).flatten(0, 1)
