"""Multi-scale deformable attention in plain PyTorch."""

# B images, L levels of H_l×W_l, S = Σ H_l·W_l positions, Q queries, M heads of D channels, P points a level

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Size = tuple[int, int]

# Samples take more memory than all else here (264 MB a layer and image of 1024×1024 pixels). Beyond this many
# numbers they are sampled again in the backward pass rather than kept.
KEEP_SAMPLES_UP_TO = 2**24


def level_reference_points(sizes: Sequence[Size], device: torch.device | str = "cpu") -> Tensor:
    """Centres of all positions of the levels, (height, width) each → S×2 float32 (x, y) in [0, 1]²."""
    levels = []
    for height, width in sizes:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        levels.append(torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).view(-1, 2))
    return torch.cat(levels)


def deformable_sampling(value: Tensor, sizes: Sequence[Size], grid: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples (Deformable DETR, equation 3).

    Args:
        value: B×S×M×D, the levels laid end to end.
        sizes: (height, width) of the L levels.
        grid: B×Q×M×L×P×2, (x, y) in [-1, 1]² of every level, (-1, -1) the outer corner of the top left
            position; outside of it is zero.
        weights: B×Q×M×L×P, summing to 1 over levels and points.

    Returns:
        B×Q×(M·D), heads outermost.
    """
    batch, _, heads, depth = value.shape
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([height * width for height, width in sizes], dim=2)
    # queries innermost: the sum over points then runs along contiguous memory, twice as fast on a CPU
    grid = grid.permute(0, 2, 3, 4, 1, 5).flatten(0, 1)  # (B·M)×L×P×Q×2
    weights = weights.permute(0, 2, 3, 4, 1).flatten(0, 1)  # (B·M)×L×P×Q
    # level by level: the samples of all levels never lie side by side in one more copy
    output = value.new_zeros(())
    for level, (height, width) in enumerate(sizes):
        samples = F.grid_sample(
            maps[level].unflatten(2, (height, width)),
            grid[:, level],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        output = output + (samples * weights[:, None, level]).sum(2)
    return output.view(batch, heads * depth, -1).transpose(1, 2)


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
            # offsets are in positions of their level, and grid_sample's coordinates run from -1 to 1
            scale = torch.tensor([(2 / w, 2 / h) for h, w in sizes], device=query.device)
            scale = scale[:, None].expand(*shape, 2).flatten()
            centre = (2 * reference - 1).repeat(1, math.prod(shape))
            grid = (self.sampling_offsets(query) * scale + centre).unflatten(-1, (*shape, 2))
            inputs = (value.float(), sizes, grid, weights.unflatten(-1, shape[1:]))
            if torch.is_grad_enabled() and grid.numel() // 2 * value.shape[-1] > KEEP_SAMPLES_UP_TO:
                mixed = checkpoint(deformable_sampling, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                mixed = deformable_sampling(*inputs)
        return self.output_proj(mixed)
