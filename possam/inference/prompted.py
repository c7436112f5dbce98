"""Masks of prompts: each stands for itself, and none competes with another for pixels.

Shapes: N masks, one a prompt; K classes; H×W the output.
"""

from __future__ import annotations

from torch import Tensor

from .boxes import boxes_of_masks
from .checks import check_masks
from .mask_grid import MaskGrid

TOP_CLASSES = 5


def collect_prompted(scores: Tensor, masks: MaskGrid, iou: Tensor, *, top: int = TOP_CLASSES) -> dict[str, Tensor]:
    """The mask of every prompt with its best classes.

    Args:
        scores: N×K float in [0, 1].
        masks: the N masks; a pixel is inside where its logit is positive.
        iou: N float in [0, 1], the masks' predicted IoU.
        top: classes to list of each mask; fewer if K is less.

    Returns:
        "masks": N×H×W bool; "boxes": N×4 float32 XYXY in pixels (`boxes_of_masks`); "iou": N float32; "scores" and
        "classes": N×min(top, K), float32 and int64, the best class first.

    Raises:
        ValueError: shapes disagree.
    """
    check_masks(scores, masks)
    inside = masks.inside()
    best, classes = scores.float().topk(min(top, scores.shape[1]), dim=1)
    return {"masks": inside, "boxes": boxes_of_masks(inside), "iou": iou.float(), "scores": best, "classes": classes}
