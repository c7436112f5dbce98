"""Losses of masks against their ground truth, and how well they overlap it."""

# N masks of h×w logits, H×W ground truth, P points

import torch
from torch import Tensor
from torch.nn import functional as F

PIXELS_AT_ONCE = 2**24


def sigmoid_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of N×P logits with labels in [0, 1], mean over points → N."""
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice loss of N×P logits with labels in [0, 1], smoothed by 1 (V-Net; METHOD.md 1.8) → N."""
    probability = logits.sigmoid()
    overlap = 2 * (probability * labels).sum(-1)
    return 1 - (overlap + 1) / (probability.sum(-1) + labels.sum(-1) + 1)


@torch.no_grad()
def thresholded_iou(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """IoU of predicted masks with their ground truth: what the IoU head learns (METHOD.md 1.4).

    Taken at the full size of the ground truth, the logits resized bilinearly and cut at 0, as inference
    restores masks: at stride 4 a perfect small mask could not reach 1.

    Args:
        mask_logits: N×h×w floating.
        masks: N×H×W, bool or 0 and 1.

    Returns:
        N float32 in [0, 1]; 0 where both are empty.
    """
    height, width = masks.shape[-2:]
    chunk = max(1, PIXELS_AT_ONCE // (height * width))
    parts = []
    for logits, actual in zip(mask_logits.split(chunk), masks.split(chunk), strict=True):
        resized = F.interpolate(logits.float()[:, None], size=(height, width), mode="bilinear", align_corners=False)
        predicted = (resized > 0).float().flatten(1)
        actual = actual.float().flatten(1)
        # sums of ones in float32 are exact up to 2**24 pixels, and several times faster than those of bool
        overlap = (predicted * actual).sum(1)
        parts.append(overlap / (predicted.sum(1) + actual.sum(1) - overlap).clamp(min=1))
    return torch.cat(parts)
