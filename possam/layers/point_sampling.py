"""Values of maps at points, and the choice of points where a mask is undecided."""

# N maps, C channels of h×w, P points as (x, y) in [0, 1]²: (0, 0) is the outer corner of the top left pixel
# B images, M masks of an image, S points drawn

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def point_sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of N×C×h×w ``maps`` at N×P×2 ``points`` → N×C×P, in the dtype of the maps.

    Points outside of the outermost pixel centers fade towards zero.
    """
    grid = (2.0 * points - 1.0).to(maps.dtype).unsqueeze(2)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(3)


def draw_points(seeds: Sequence[int], counts: Sequence[int], device: torch.device | str) -> list[Tensor]:
    """Sets of uniform points, an image's from its own seed alone, so that they do not depend on its batch.

    A set runs from top to bottom: its order means nothing to the losses, and neighbors in memory are sampled
    several times faster.

    Args:
        seeds: one an image, in [0, 2**63).
        counts: S of every set.

    Returns:
        For every set B×S×2 float32.
    """
    images = []
    for seed in seeds:
        generator = torch.Generator(device).manual_seed(seed)
        uniform = [torch.rand(2, count, generator=generator, device=device) for count in counts]
        images.append([torch.stack([x, y.sort().values], dim=1) for x, y in uniform])
    return [torch.stack(points) for points in zip(*images, strict=True)]


@torch.no_grad()
def most_uncertain(mask_logits: Tensor, candidates: Tensor, chosen: int) -> Tensor:
    """Which candidates lie where a mask is undecided: those with logits nearest to 0 (PointRend 3.1; METHOD.md 1.8).

    Args:
        mask_logits: M×h×w float32.
        candidates: S×2, the same for all masks.
        chosen: how many of them, at most S.

    Returns:
        M×``chosen`` int64, numbers of candidates, in no order.
    """
    certainty = point_sample(mask_logits[None], candidates[None])[0].abs_()
    return certainty.topk(chosen, dim=1, largest=False, sorted=False).indices
