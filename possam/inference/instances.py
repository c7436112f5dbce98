"""Things one by one, each with a mask, a box, a class and a score (METHOD.md 1.10).

Shapes: Q masks, K classes, U masks of the pairs that stay, N instances; H×W the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from possam.d2.structures import Boxes, Instances

from .boxes import boxes_of_masks
from .checks import check_isthing, check_masks
from .mask_grid import MaskGrid, Tile


def merge_instances(
    scores: Tensor, masks: MaskGrid, isthing: Sequence[bool] | Tensor, *, top_k: int = 100
) -> Instances:
    """The ``top_k`` best of all (mask, class) pairs, of which those of things stay.

    As in FC-CLIP stuff pairs compete for the ``top_k`` places before they are left out. A pair's score is its
    class score times the mean probability of the mask's pixels. A mask without a pixel is no instance.

    Args:
        scores: Q×K float in [0, 1], without void.
        masks: the Q masks; a pixel is inside where its logit is positive.
        isthing: K bools.
        top_k: at least 1.

    Returns:
        Instances of size H×W, the best first: ``pred_masks`` N×H×W bool, ``pred_boxes`` Boxes XYXY in pixels,
        ``scores`` N float32 in [0, 1], ``pred_classes`` N int64 contiguous class ids; N ≤ top_k, and 0 in a
        vocabulary without things.

    Raises:
        ValueError: shapes disagree, or ``top_k`` is below 1.
    """
    check_masks(scores, masks)
    things = check_isthing(isthing, scores)
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    pair_scores, pairs = scores.float().flatten().topk(min(top_k, scores.numel()))
    query, label = pairs // scores.shape[1], pairs % scores.shape[1]
    thing = things[label]
    query, label, pair_scores = query[thing], label[thing], pair_scores[thing]

    # Many pairs share a mask: look at every mask once.
    unique, place = query.unique(return_inverse=True)
    pieces, area, probability = _cut_out(masks, unique)
    final = pair_scores * (probability / area.clamp(min=1))[place]
    order = final.argsort(descending=True, stable=True)
    order = order[area[place][order] > 0]
    instances = Instances(masks.size)
    instances.pred_masks = _paste(pieces, place[order], masks.size)
    instances.pred_boxes = Boxes(boxes_of_masks(instances.pred_masks))
    instances.scores = final[order]
    instances.pred_classes = label[order]
    return instances


class _Piece(NamedTuple):
    """What is inside some masks in one tile: which of the U masks, and bools of their number × the tile's size."""

    tile: Tile
    places: Tensor
    inside: Tensor


def _cut_out(masks: MaskGrid, queries: Tensor) -> tuple[list[_Piece], Tensor, Tensor]:
    """The pieces of U masks, and of each its area in pixels and the sum of their probabilities."""
    area = torch.zeros(len(queries), dtype=torch.int64, device=masks.device)
    probability = torch.zeros(len(queries), device=masks.device)
    pieces = []
    for tile, reached in zip(masks.tiles, masks.bounds[1][queries].T > 0, strict=True):
        places = reached.nonzero().squeeze(1)
        if len(places):
            logits = masks.restore(queries[places], tile)
            inside = logits > 0
            area[places] += inside.sum(dim=(1, 2))
            probability[places] += (logits.sigmoid() * inside).sum(dim=(1, 2))
            pieces.append(_Piece(tile, places, inside))
    return pieces, area, probability


def _paste(pieces: list[_Piece], wanted: Tensor, size: tuple[int, int]) -> Tensor:
    """Whole masks, N×H×W bool: those that `wanted` names by their place among the U."""
    masks = torch.zeros((len(wanted), *size), dtype=torch.bool, device=wanted.device)
    for tile, places, inside in pieces:
        own, piece = (wanted[:, None] == places).nonzero(as_tuple=True)
        place = (own, *tile)
        masks[place] = inside[piece]
    return masks
