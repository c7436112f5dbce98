"""One class for every pixel (METHOD.md 1.10)."""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_masks

# Numbers of the K×rows×W block held at a time, 16 MB of float32: 847 classes at 1024×1024 would be 3.5 GB.
_BLOCK = 1 << 22


def merge_semantic(scores: Tensor, mask_logits: Tensor) -> Tensor:
    """Class with the largest Σ_q score × mask probability, pixel by pixel.

    Args:
        scores: Q×K float in [0, 1], without void.
        mask_logits: Q×H×W float.

    Returns:
        H×W int64 contiguous class ids. There is no void: every pixel takes a class, and a tie takes one of
        those that tie.

    Raises:
        ValueError: shapes disagree.
    """
    check_masks(scores, mask_logits)
    classes = scores.shape[1]
    height, width = mask_logits.shape[-2:]
    weights = scores.float().T
    result = torch.empty((height, width), dtype=torch.int64, device=mask_logits.device)
    rows = max(1, _BLOCK // (max(classes, len(scores)) * width))
    with torch.autocast(device_type=scores.device.type, enabled=False):
        for top in range(0, height, rows):
            masks = mask_logits[:, top : top + rows].float().sigmoid()
            result[top : top + rows] = torch.einsum("kq,qhw->khw", weights, masks).argmax(dim=0)
    return result
