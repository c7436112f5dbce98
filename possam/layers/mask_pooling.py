"""Mean of a feature map inside each predicted mask."""

# B images, Q masks, C channels; features at H×W, mask logits at h×w

import torch
from torch import Tensor
from torch.nn import functional as F


def mask_pool(features: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Averages ``features`` inside every mask (METHOD.md 1.6).

    The logits are brought to the size of the features (bilinear), binarised at 0 and detached, so no
    gradient reaches the masks through here.

    Args:
        features: B×C×H×W, any floating dtype.
        mask_logits: B×Q×h×w, any floating dtype, positive inside the mask.

    Returns:
        pooled B×Q×C float32, zero for an empty mask; empty B×Q bool, True where no pixel of the mask is
        left at the size of the features.

    Raises:
        ValueError: where either is not four-dimensional or the batch sizes differ.
    """
    if features.dim() != 4 or mask_logits.dim() != 4 or features.shape[0] != mask_logits.shape[0]:
        raise ValueError(
            "mask_pool expects features B×C×H×W and mask logits B×Q×h×w of the same batch, "
            f"but got shapes {tuple(features.shape)} and {tuple(mask_logits.shape)}"
        )
    with torch.no_grad():
        if mask_logits.shape[-2:] != features.shape[-2:]:
            mask_logits = F.interpolate(mask_logits, size=features.shape[-2:], mode="bilinear", align_corners=False)
        inside = (mask_logits > 0).flatten(2)
        area = inside.sum(-1, keepdim=True)
    # float32 also under autocast: the sum over a large mask overflows in half precision
    with torch.autocast(features.device.type, enabled=False):
        total = inside.float() @ features.float().flatten(2).transpose(1, 2)
        pooled = total / area.clamp(min=1)
    return pooled, area.squeeze(-1) == 0
