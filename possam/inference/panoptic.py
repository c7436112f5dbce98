"""One segment and one class for every pixel (METHOD.md 1.10).

Shapes: Q masks, K classes, H×W the output; n ≤ Q masks whose score passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .boxes import boxes_of_masks
from .checks import check_fraction, check_isthing, check_masks


def merge_panoptic(
    scores: Tensor,
    mask_logits: Tensor,
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
        mask_logits: Q×H×W float.
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
    check_masks(scores, mask_logits)
    things = check_isthing(isthing, scores).tolist()
    check_fraction("object_threshold", object_threshold)
    check_fraction("overlap_threshold", overlap_threshold)
    best, label = scores.float().max(dim=1)
    passing = (best > object_threshold).nonzero().squeeze(1)
    winner, inside, own = _compete(best[passing], mask_logits, passing.tolist())
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
    for segment in segments:
        x1, y1, x2, y2 = boxes_of_masks((panoptic == segment["id"]).unsqueeze(0))[0].int().tolist()
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


def _compete(scores: Tensor, mask_logits: Tensor, queries: list[int]) -> tuple[Tensor, Tensor, list[int]]:
    """Which of the n masks wins each pixel.

    One mask after the other, so that no n×H×W volume of probabilities is made; the first wins a tie.

    Returns:
        winner H×W int64 in [0, n), inside H×W bool (the winner's probability is at least 0.5), and each
        mask's own area in pixels.
    """
    size, device = mask_logits.shape[-2:], mask_logits.device
    winner = torch.zeros(size, dtype=torch.int64, device=device)
    inside = torch.zeros(size, dtype=torch.bool, device=device)
    highest = torch.full(size, float("-inf"), device=device)
    own = []
    for place, query in enumerate(queries):
        probability = mask_logits[query].float().sigmoid()
        hit = probability >= 0.5
        own.append(hit.sum())
        value = scores[place] * probability
        better = value > highest
        highest = torch.where(better, value, highest)
        inside = torch.where(better, hit, inside)
        winner.masked_fill_(better, place)
    return winner, inside, torch.stack(own).tolist() if own else []
