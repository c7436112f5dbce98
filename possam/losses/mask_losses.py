"""Losses of masks against their ground truth, and how well they overlap it."""

# N masks of h×w logits, T segments of H×W ground truth, P points

import torch
from torch import Tensor
from torch.nn import functional as F

# Resized masks that fit the cache are counted two to five times faster; a GPU wants them in few calls.
PIXELS_AT_ONCE = {"cpu": 2**21, "cuda": 2**26}


def sigmoid_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of …×P logits with labels in [0, 1], mean over points → …."""
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice loss of …×P logits with labels in [0, 1], smoothed by 1 (V-Net; METHOD.md 1.8) → …."""
    probability = logits.sigmoid()
    overlap = 2 * (probability * labels).sum(-1)
    return 1 - (overlap + 1) / (probability.sum(-1) + labels.sum(-1) + 1)


@torch.no_grad()
def thresholded_iou(mask_logits: Tensor, masks: Tensor, segments: Tensor) -> Tensor:
    """IoU of predicted masks with their ground truth: what the IoU head learns (METHOD.md 1.4).

    Taken at the full size of the ground truth, the logits resized bilinearly and cut at 0, as inference
    restores masks: at stride 4 a perfect small mask could not reach 1.

    Args:
        mask_logits: N×h×w floating.
        masks: T×H×W, bool or 0 and 1.
        segments: N int64, the mask that each prediction belongs to.

    Returns:
        N float32 in [0, 1]; 0 where both are empty.
    """
    size = masks.shape[-2:]
    chunk = max(1, PIXELS_AT_ONCE.get(mask_logits.device.type, 2**21) // size.numel())
    iou = mask_logits.new_zeros(len(mask_logits), dtype=torch.float32)
    # in the order of the segments, so that one transfer to the device serves all of them
    segments, order = segments.cpu().sort()
    numbers, counts = segments.unique_consecutive(return_counts=True)
    parts = order.to(iou.device).split(counts.tolist())
    for segment, predictions in zip(numbers.tolist(), parts, strict=True):
        # sums of ones in float32 are exact up to 2**24 pixels, and several times faster than those of bool
        actual = masks[segment].flatten().float()
        area = actual.sum()
        for part in predictions.split(chunk):
            logits = mask_logits[part, None].float()
            resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            predicted = resized.gt_(0).flatten(1)
            total = predicted.sum(1) + area
            overlap = predicted.mul_(actual).sum(1)
            iou[part] = overlap / (total - overlap).clamp(min=1)
    return iou
