"""Mask filtering: by what masks are ranked, and dropped below a threshold (METHOD.md 2.7)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["MASK_FILTERS"]


def by_class(scores: Tensor, iou: Tensor) -> Tensor:
    """The class scores as they are."""
    return scores


def by_iou(scores: Tensor, iou: Tensor) -> Tensor:
    """The predicted IoU as the score of a mask's best class; its other classes keep their ratios to that one."""
    return by_class_and_iou(scores / scores.amax(dim=1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny), iou)


def by_class_and_iou(scores: Tensor, iou: Tensor) -> Tensor:
    """The class scores times the predicted IoU."""
    return scores * iou.to(scores).clamp(0, 1).unsqueeze(1)


MASK_FILTERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": by_class,
    "iou": by_iou,
    "cls_iou": by_class_and_iou,
}
"""`TEST.MASK_FILTER`: (class scores Q×K in [0, 1], not weighted by the IoU; IoU Q in [0, 1]) → scores Q×K in [0, 1]."""
