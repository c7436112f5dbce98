"""Things one by one, each with a mask, a box, a class and a score (METHOD.md 1.10)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from possam.d2.structures import Boxes, Instances

from .boxes import boxes_of_masks
from .checks import check_isthing, check_masks


def merge_instances(
    scores: Tensor, mask_logits: Tensor, isthing: Sequence[bool] | Tensor, *, top_k: int = 100
) -> Instances:
    """The ``top_k`` best of all (mask, class) pairs, of which those of things stay.

    As in FC-CLIP stuff pairs compete for the ``top_k`` places before they are left out. A pair's score is its
    class score times the mean probability of the mask's pixels. A mask without a pixel is no instance.

    Args:
        scores: Q×K float in [0, 1], without void.
        mask_logits: Q×H×W float; a pixel is inside where its logit is positive.
        isthing: K bools.
        top_k: at least 1.

    Returns:
        Instances of size H×W, the best first: ``pred_masks`` N×H×W bool, ``pred_boxes`` Boxes XYXY in pixels,
        ``scores`` N float32 in [0, 1], ``pred_classes`` N int64 contiguous class ids; N ≤ top_k, and 0 in a
        vocabulary without things.

    Raises:
        ValueError: shapes disagree, or ``top_k`` is below 1.
    """
    check_masks(scores, mask_logits)
    things = check_isthing(isthing, scores)
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    pair_scores, pairs = scores.float().flatten().topk(min(top_k, scores.numel()))
    query, label = pairs // scores.shape[1], pairs % scores.shape[1]
    thing = things[label]
    query, label, pair_scores = query[thing], label[thing], pair_scores[thing]

    # Many pairs share a mask: look at every mask once.
    unique, place = query.unique(return_inverse=True)
    logits = mask_logits[unique].float()
    masks = logits > 0
    area = masks.flatten(1).sum(dim=1)
    probability = (logits.sigmoid() * masks).flatten(1).sum(dim=1)
    quality = probability / area.clamp(min=1)
    boxes = boxes_of_masks(masks)

    final = pair_scores * quality[place]
    order = final.argsort(descending=True, stable=True)
    order = order[area[place][order] > 0]
    place = place[order]
    height, width = mask_logits.shape[-2:]
    instances = Instances((height, width))
    instances.pred_masks = masks[place]
    instances.pred_boxes = Boxes(boxes[place])
    instances.scores = final[order]
    instances.pred_classes = label[order]
    return instances
