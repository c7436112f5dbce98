"""One segment and one class for every pixel (METHOD.md 1.10).

Shapes: Q masks, K classes, T tiles of the H×W output; n ≤ Q masks whose score passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .boxes import boxes_of_segments
from .checks import check_fraction, check_isthing, check_masks
from .mask_grid import MaskGrid

# How far rounding may take a logit from its bounds, and so, in parts of it, a probability.
_ROUNDING = 1e-4


def merge_panoptic(
    scores: Tensor,
    masks: MaskGrid,
    isthing: Sequence[bool] | Tensor,
    *,
    object_threshold: float,
    overlap_threshold: float,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Merge scored masks into a panoptic segmentation as Mask2Former does.

    A mask takes its best class and is dropped unless that score is above ``object_threshold``. Every pixel
    goes to the mask with the highest score × probability, and stays void where that mask's probability is
    under 0.5. A mask that wins fewer pixels than ``overlap_threshold`` × the pixels of its own (probability
    at least 0.5) vanishes and leaves its pixels void. Stuff of one class becomes one segment. Where no mask
    passes, all is void.

    Args:
        scores: Q×K float in [0, 1], without void.
        masks: the Q masks; those that do not pass are never looked at.
        isthing: K bools.
        object_threshold: in [0, 1].
        overlap_threshold: in [0, 1].

    Returns:
        H×W int32 segment ids, 0 void; and a dict a segment, in the order of ids 1, 2, …: ``id``, ``isthing``,
        ``category_id`` (contiguous class id), ``score``, ``area`` (pixels), ``bbox`` ([x, y, width, height]
        in pixels, as COCO has it), ``query`` (index of the mask; of joined stuff the one with the best score,
        whose score is given).

    Raises:
        ValueError: shapes disagree or a threshold is out of range.
    """
    check_masks(scores, masks)
    things = check_isthing(isthing, scores).tolist()
    check_fraction("object_threshold", object_threshold)
    check_fraction("overlap_threshold", overlap_threshold)
    best, label = scores.float().max(dim=1)
    passing = (best > object_threshold).nonzero().squeeze(1)
    winner, inside, own = _compete(best[passing], masks, passing)
    if len(passing) == 0:
        return winner.int(), []

    won = torch.bincount(winner.flatten(), minlength=len(passing)).tolist()
    kept = torch.bincount(winner[inside], minlength=len(passing)).tolist()
    candidates = [
        _Candidate(query=query, score=score, category=category, area=area)
        if area and wins / size >= overlap_threshold
        else None
        for query, score, category, area, wins, size in zip(
            passing.tolist(), best[passing].tolist(), label[passing].tolist(), kept, won, own, strict=True
        )
    ]
    ids, segments = _number(candidates, things)
    panoptic = torch.tensor(ids, dtype=torch.int32, device=winner.device)[winner].masked_fill(~inside, 0)
    boxes = boxes_of_segments(panoptic, len(segments)).int().tolist()
    for segment, (x1, y1, x2, y2) in zip(segments, boxes, strict=True):
        segment["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    return panoptic, segments


class _Candidate(NamedTuple):
    """A mask that keeps enough of itself to become a segment or part of one."""

    query: int
    score: float
    category: int
    area: int


def _number(
    candidates: list[_Candidate | None], things: list[bool]
) -> tuple[list[int], list[dict[str, Any]]]:
    """Segment id of every candidate, 0 for None, and the segments; stuff of one class shares one."""
    ids: list[int] = []
    segments: list[dict[str, Any]] = []
    stuff: dict[int, dict[str, Any]] = {}
    for candidate in candidates:
        if candidate is None:
            ids.append(0)
            continue
        category = candidate.category
        segment = stuff.get(category)
        if segment is None:
            segment = {"id": len(segments) + 1, "isthing": things[category], "category_id": category}
            segment |= {"score": candidate.score, "area": 0, "query": candidate.query}
            segments.append(segment)
            if not things[category]:
                stuff[category] = segment
        elif candidate.score > segment["score"]:
            segment |= {"score": candidate.score, "query": candidate.query}
        segment["area"] += candidate.area
        ids.append(segment["id"])
    return ids, segments


def _compete(scores: Tensor, masks: MaskGrid, queries: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Which of n masks wins each pixel; the first wins a tie.

    In a tile only those masks are restored whose bounds say that they may win there, or that their outline is there.

    Returns:
        winner H×W int64 in [0, n), inside H×W bool (the winner's probability is at least 0.5), and each
        mask's own area in pixels.
    """
    winner = torch.zeros(masks.size, dtype=torch.int64, device=masks.device)
    inside = torch.zeros(masks.size, dtype=torch.bool, device=masks.device)
    if len(queries) == 0:
        return winner, inside, []
    low, high = (bound[queries] for bound in masks.bounds)
    least, greatest = (scores[:, None] * bound.sigmoid() for bound in (low, high))
    may_win = greatest >= least.amax(dim=0) * (1 - _ROUNDING)
    full = low >= 0
    outlined = ~full & (high >= -_ROUNDING)
    settled = (may_win.sum(dim=0) < 2) & ~outlined.any(dim=0)
    looked = (may_win | outlined) & ~settled
    areas = torch.tensor([tile.area for tile in masks.tiles], device=masks.device)
    own = ((full & ~looked) * areas).sum(dim=1)
    only = may_win.byte().argmax(dim=0)
    covered = full.gather(0, only[None])[0].tolist()
    for tile, look, done, winning, covering in zip(
        masks.tiles, looked.T, settled.tolist(), only.tolist(), covered, strict=True
    ):
        if done:
            winner[tile], inside[tile] = winning, covering
            continue
        places = look.nonzero().squeeze(1)
        probability = masks.restore(queries[places], tile).sigmoid()
        own[places] += (probability >= 0.5).sum(dim=(1, 2))
        best = (scores[places, None, None] * probability).max(dim=0).indices
        winner[tile] = places[best]
        inside[tile] = probability.gather(0, best[None])[0] >= 0.5
    return winner, inside, own.tolist()
