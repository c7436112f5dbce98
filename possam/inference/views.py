"""Several views of one image, mirrored or at other scales, put together: test-time augmentation.

Shapes: V views, Q masks of a view (may differ), G joined masks, K classes, h×w a grid over the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from possam.inference.checks import check_fraction, check_masks

__all__ = ["View", "join_views", "stack_views"]

# Keeps the logit of a mean probability of exactly 0 or 1 finite.
_EPS = 1e-6


class View(NamedTuple):
    """Masks of one view, turned back and resized to the grid that all views of the image share.

    Attributes:
        scores: Q×K float32 in [0, 1], without void.
        mask_logits: Q×h×w float32.
        iou: Q float32 in [0, 1], predicted quality.
        void: Q float32 in [0, 1], probability of being nothing.
    """

    scores: Tensor
    mask_logits: Tensor
    iou: Tensor
    void: Tensor


def stack_views(views: Sequence[View]) -> View:
    """All masks of all views, each with a V-th of its score.

    A semantic segmentation of the result is that of the views' mean Σ_q score × mask probability, which is how
    semantic segmentation averages augmentations.
    """
    _check(views)
    return View(
        scores=torch.cat([view.scores for view in views]) / len(views),
        mask_logits=torch.cat([view.mask_logits for view in views]),
        iou=torch.cat([view.iou for view in views]),
        void=torch.cat([view.void for view in views]),
    )


def join_views(views: Sequence[View], *, min_iou: float = 0.5) -> View:
    """Masks that show the same segment in several views become one, so that they do not compete for its pixels.

    View by view, masks are assigned one to one to those joined so far, by the largest sum of IoU and agreement of
    scores (Σ_k of the smaller of the two), where the IoU is at least `min_iou`; the rest start masks of their own. A
    joined mask has the mean probability of its members; its scores are their sum over V, so that a view which does not
    show the segment votes against it. The published method has no such step; it is this project's.

    Args:
        views: of the same K and h×w; one alone is returned as it is.
        min_iou: in [0, 1].

    Returns:
        A view of G masks, those of the first view first; `iou` and `void` are the members' mean.

    Raises:
        ValueError: no view, shapes disagree, or `min_iou` is out of range.
    """
    _check(views)
    check_fraction("min_iou", min_iou)
    if len(views) == 1:
        return views[0]
    scores, iou, void = views[0].scores.clone(), views[0].iou.clone(), views[0].void.clone()
    probability = views[0].mask_logits.sigmoid()
    members = torch.ones_like(iou)
    for view in views[1:]:
        new = view.mask_logits.sigmoid()
        joined, mate = _assign(probability / members[:, None, None], scores / members[:, None], view, new, min_iou)
        scores[joined] += view.scores[mate]
        iou[joined] += view.iou[mate]
        void[joined] += view.void[mate]
        probability[joined] += new[mate]
        members[joined] += 1
        alone = torch.ones(len(new), dtype=torch.bool, device=new.device)
        alone[mate] = False
        scores = torch.cat([scores, view.scores[alone]])
        iou = torch.cat([iou, view.iou[alone]])
        void = torch.cat([void, view.void[alone]])
        probability = torch.cat([probability, new[alone]])
        members = torch.cat([members, torch.ones_like(view.iou[alone])])
    mean = probability / members[:, None, None]
    return View(scores=scores / len(views), mask_logits=mean.logit(_EPS), iou=iou / members, void=void / members)


def _assign(
    probability: Tensor, scores: Tensor, view: View, new: Tensor, min_iou: float
) -> tuple[Tensor, Tensor]:
    """Indices of joined masks and of the masks of `view` that go to them."""
    from scipy.optimize import linear_sum_assignment  # here: importing the package stays fast

    a, b = (masks.flatten(1).gt(0.5).float() for masks in (probability, new))
    both = a @ b.T
    iou = both / (a.sum(dim=1)[:, None] + b.sum(dim=1)[None] - both).clamp(min=1)
    agreement = torch.stack([torch.minimum(row, view.scores).sum(dim=1) for row in scores])
    fits = iou >= min_iou
    # A pair that does not fit is worth nothing; were it a loss, more pairs would win over better ones.
    value = torch.where(fits, iou + agreement, 0.0)
    rows, columns = (torch.as_tensor(index) for index in linear_sum_assignment(value.cpu().numpy(), maximize=True))
    rows, columns = rows.to(value.device), columns.to(value.device)
    kept = fits[rows, columns]
    return rows[kept], columns[kept]


def _check(views: Sequence[View]) -> None:
    if not views:
        raise ValueError("no view was given; an image needs at least one.")
    for view in views:
        check_masks(view.scores, view.mask_logits)
    sizes = {(view.scores.shape[1], *view.mask_logits.shape[1:]) for view in views}
    if len(sizes) > 1:
        raise ValueError(f"views must share classes and grid, but have (K, h, w) {sorted(sizes)}; resize them first.")
