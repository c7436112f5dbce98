"""Multi-scale deformable attention."""

# B images, L levels of H_l×W_l, S = Σ H_l·W_l positions, Q queries, M heads of D channels, P points a level

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .deformable_attention_sampling import Size, deformable_sampling
from .linear import Linear


def level_reference_points(sizes: Sequence[Size], device: torch.device | str = "cpu") -> Tensor:
    """Centers of all positions of the levels, (height, width) each → S×2 float32 (x, y) in [0, 1]²."""
    levels = []
    for height, width in sizes:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        levels.append(torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).view(-1, 2))
    return torch.cat(levels)


class MultiScaleDeformableAttention(nn.Module):
    """Every query reads ``points`` places a head and level, at learned offsets (Deformable DETR 4.1).

    Offsets, weights and sampling are computed in float32 also under autocast.
    """

    def __init__(self, *, channels: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels must be divisible by heads, but got {channels} and {heads}")
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = Linear(channels, heads * levels * points * 2)
        self.attention_weights = Linear(channels, heads * levels * points)
        self.value_proj = Linear(channels, channels)
        self.output_proj = Linear(channels, channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Head m first looks in direction 2πm/M, its point p at p pixels, all alike (Deformable DETR A.4)."""
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.points + 1)
        offsets = direction[:, None, None, :] * distance[:, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, reference: Tensor, memory: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Attends from ``query`` to ``memory``.

        Args:
            query: B×Q×C, positions included.
            reference: Q×2 float32, (x, y) in [0, 1]² about which each query looks, at every level.
            memory: B×S×C, the levels laid end to end.
            sizes: (height, width) of the levels.

        Returns:
            B×Q×C.

        Raises:
            ValueError: where the sizes do not add up to S or are not ``levels`` many.
        """
        positions = sum(height * width for height, width in sizes)
        if len(sizes) != self.levels or positions != memory.shape[1]:
            raise ValueError(
                f"expected {self.levels} levels with {memory.shape[1]} positions in all, "
                f"but got sizes {list(sizes)} with {positions}"
            )
        value = self.value_proj(memory).unflatten(-1, (self.heads, -1))
        with torch.autocast(query.device.type, enabled=False):
            query = query.float()
            shape = (self.heads, self.levels, self.points)
            weights = self.attention_weights(query).unflatten(-1, (self.heads, -1)).softmax(-1)
            # offsets are in positions of their level, and grid_sample's coordinates run from -1 to 1
            scale = torch.tensor([(2 / w, 2 / h) for h, w in sizes], device=query.device)
            scale = scale[:, None].expand(*shape, 2).flatten()
            center = (2 * reference - 1).repeat(1, math.prod(shape))
            grid = (self.sampling_offsets(query) * scale + center).unflatten(-1, (*shape, 2))
            mixed = deformable_sampling(value, sizes, grid, weights.unflatten(-1, shape[1:]))
        return self.output_proj(mixed)
