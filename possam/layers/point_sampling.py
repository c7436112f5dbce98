"""Values of maps at points, and the choice of points where a mask is undecided."""

# N maps, C channels of h×w, P points as (x, y) in [0, 1]²: (0, 0) is the outer corner of the top left pixel

import torch
from torch import Tensor
from torch.nn import functional as F


def point_sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of N×C×h×w ``maps`` at N×P×2 ``points`` → N×C×P, in the dtype of the maps.

    Points outside of the outermost pixel centres fade towards zero.
    """
    grid = (2.0 * points - 1.0).to(maps.dtype).unsqueeze(2)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(3)


@torch.no_grad()
def sample_uncertain_points(
    mask_logits: Tensor, *, points: int, oversample: float = 3.0, importance: float = 0.75
) -> Tensor:
    """Points of which most lie where the mask is undecided (PointRend 3.1; METHOD.md 1.8).

    ``oversample``·``points`` candidates are drawn uniformly for each mask; the ``importance`` share of the
    result are those with logits nearest to 0, and the rest is drawn uniformly anew.

    Args:
        mask_logits: N×h×w float32.

    Returns:
        N×``points``×2 float32, (x, y) in [0, 1]².
    """
    count = mask_logits.shape[0]
    candidates = torch.rand(count, int(points * oversample), 2, device=mask_logits.device)
    certainty = point_sample(mask_logits[:, None], candidates).squeeze(1).abs()
    chosen = int(points * importance)
    index = certainty.topk(chosen, dim=1, largest=False, sorted=False).indices
    uncertain = candidates.gather(1, index[..., None].expand(-1, -1, 2))
    uniform = torch.rand(count, points - chosen, 2, device=mask_logits.device)
    return torch.cat([uncertain, uniform], dim=1)
