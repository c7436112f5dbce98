"""Multi-scale deformable attention in plain PyTorch."""

# B images, L levels of H_l×W_l, S = Σ H_l·W_l positions, Q queries, M heads of D channels, P points a level

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Size = tuple[int, int]


def level_reference_points(sizes: Sequence[Size], device: torch.device | str = "cpu") -> Tensor:
    """Centres of all positions of the levels, (height, width) each → S×2 float32 (x, y) in [0, 1]²."""
    levels = []
    for height, width in sizes:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        levels.append(
            torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).view(-1, 2)
        )
    return torch.cat(levels)


def deformable_sampling(value: Tensor, sizes: Sequence[Size], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples (Deformable DETR, equation 3).

    Args:
        value: B×S×M×D, the levels laid end to end.
        sizes: (height, width) of the L levels.
        locations: B×Q×M×L×P×2, (x, y) in [0, 1]² of every level; outside of it is zero.
        weights: B×Q×M×L×P, summing to 1 over levels and points.

    Returns:
        B×Q×(M·D), heads outermost.
    """
    batch, _, heads, depth = value.shape
    queries = locations.shape[1]
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([height * width for height, width in sizes], dim=2)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B·M)×Q×L×P×2
    shares = weights.transpose(1, 2).flatten(0, 1)  # (B·M)×Q×L×P
    output = value.new_zeros(batch * heads, depth, queries)
    # a sum level by level: the samples of all levels never lie side by side in one more copy
    for level, (height, width) in enumerate(sizes):
        samples = F.grid_sample(
            maps[level].unflatten(2, (height, width)),
            grids[:, :, level],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        output = output + torch.einsum("ndqp,nqp->ndq", samples, shares[:, :, level])
    return output.view(batch, heads * depth, queries).transpose(1, 2)


class MultiScaleDeformableAttention(nn.Module):
    """Every query reads ``points`` places a head and level, at learnt offsets (Deformable DETR 4.1).

    Offsets, weights and sampling are float32 also under autocast.
    """

    def __init__(self, *, channels: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels must be divisible by heads, but got {channels} and {heads}")
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
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
            offsets = self.sampling_offsets(query).unflatten(-1, (*shape, 2))
            extent = torch.tensor([(w, h) for h, w in sizes], dtype=torch.float32, device=query.device)
            locations = reference[:, None, None, None, :] + offsets / extent[:, None, :]
            mixed = deformable_sampling(value.float(), sizes, locations, weights.unflatten(-1, shape[1:]))
        return self.output_proj(mixed)
