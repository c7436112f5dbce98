"""Masks of prompts, each for itself, and which masks of many prompts to keep (METHOD.md 3.9).

Shapes: N masks, one a prompt; K classes; H×W the output, h×w the decoder's masks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .boxes import boxes_of_masks
from .checks import check_fraction, check_masks
from .mask_grid import MaskGrid

TOP_CLASSES = 5


def collect_prompted(scores: Tensor, masks: MaskGrid, iou: Tensor, *, top: int = TOP_CLASSES) -> dict[str, Tensor]:
    """The mask of every prompt with its best classes; no mask competes with another for pixels.

    Args:
        scores: N×K float in [0, 1].
        masks: the N masks; a pixel is inside where its logit is positive.
        iou: N float in [0, 1], the masks' predicted IoU.
        top: classes to list of each mask; fewer if K is less.

    Returns:
        "masks": N×H×W bool; "boxes": N×4 float32 XYXY in pixels (`boxes_of_masks`); "iou": N float32; "classes":
        N×min(top, K) int64, the best first; "scores" and "probabilities", as large, float32: theirs as they came, and
        divided by the sum over all K classes.

    Raises:
        ValueError: shapes disagree.
    """
    check_masks(scores, masks)
    inside = masks.inside()
    best, classes = scores.float().topk(min(top, scores.shape[1]), dim=1)
    total = scores.float().sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return {
        "masks": inside,
        "boxes": boxes_of_masks(inside),
        "iou": iou.float(),
        "classes": classes,
        "scores": best,
        "probabilities": best / total,
    }


def point_grid(side: int, size: tuple[int, int]) -> Tensor:
    """The centers of `side`×`side` equal parts of an image of (height, width) in pixels: side²×2 float32 (x, y).

    Row by row; segment_anything's `build_point_grid`.
    """
    centers = (torch.arange(side) + 0.5) / side
    rows, columns = torch.meshgrid(centers * size[0], centers * size[1], indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)


def stability_scores(masks: MaskGrid, *, offset: float = 1.0) -> Tensor:
    """How little each mask depends on its threshold: N float32 in [0, 1], segment_anything's stability score.

    The IoU of the mask thresholded at `offset` and at -`offset`, in logits; 0 where no logit is above -`offset`.
    """
    high = torch.zeros(len(masks), device=masks.device)
    low = torch.zeros(len(masks), device=masks.device)
    for tile in masks.tiles:
        logits = masks.restore(tile=tile)
        high += (logits > offset).sum(dim=(1, 2))
        low += (logits > -offset).sum(dim=(1, 2))
    return high / low.clamp(min=1)


def suppress_masks(masks: Tensor, order: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression by the IoU of masks, not of their boxes.

    Args:
        masks: N×h×w bool.
        order: indices of the N masks, the best first.
        threshold: in [0, 1]; a mask is dropped if its IoU with a better one that is kept is above it.

    Returns:
        The indices of the masks that are kept, in this order; empty masks are not among them.

    Raises:
        ValueError: the threshold is out of range.
    """
    check_fraction("threshold", threshold)
    flat = masks.flatten(1).float()[order]
    shared, area = flat @ flat.T, flat.sum(dim=1)
    overlapping = (shared > threshold * (area[:, None] + area - shared)).cpu()
    dropped = (area == 0).cpu()
    for place in range(len(order)):
        if not dropped[place]:
            dropped[place + 1 :] |= overlapping[place, place + 1 :]
    return order[~dropped.to(order.device)]
