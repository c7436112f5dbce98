"""Masks and scores to segmentations as Mask2Former and FC-CLIP do it: every mask at full size, then merged.

Shapes: Q masks, K classes, h×w the decoder's masks, H×W the output.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Merged(NamedTuple):
    """panoptic H×W int32 and its segments; semantic H×W int64; instances as (score, class, mask H×W bool)."""

    panoptic: Tensor
    segments: list[dict[str, Any]]
    semantic: Tensor
    instances: tuple[Tensor, Tensor, Tensor]


def merge(
    scores: Tensor,
    mask_logits: Tensor,
    isthing: list[bool],
    *,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    object_threshold: float = 0.1,
    overlap_threshold: float = 0.8,
    top_k: int = 100,
) -> Merged:
    """All three segmentations of scores Q×K and mask logits Q×h×w."""
    logits = restore(mask_logits, padded_size, image_size, output_size)
    ids, segments = panoptic(scores, logits, isthing, object_threshold, overlap_threshold)
    return Merged(ids, segments, semantic(scores, logits), instances(scores, logits, isthing, top_k))


def restore(
    mask_logits: Tensor, padded_size: tuple[int, int], image_size: tuple[int, int], output_size: tuple[int, int]
) -> Tensor:
    """Q×h×w to the padded input, without its padding, and to the output: Q×H×W."""
    padded = F.interpolate(mask_logits[None], size=padded_size, mode="bilinear", align_corners=False)
    image = padded[..., : image_size[0], : image_size[1]]
    return F.interpolate(image, size=output_size, mode="bilinear", align_corners=False)[0]


def semantic(scores: Tensor, logits: Tensor) -> Tensor:
    """H×W classes."""
    return torch.einsum("qk,qhw->khw", scores, logits.sigmoid()).argmax(dim=0)


def panoptic(
    scores: Tensor, logits: Tensor, isthing: list[bool], object_threshold: float, overlap_threshold: float
) -> tuple[Tensor, list[dict[str, Any]]]:
    """H×W ids, and a dict a segment with its id, class, area and box."""
    best, label = scores.max(dim=1)
    kept = (best > object_threshold).nonzero().squeeze(1).tolist()
    result = torch.zeros(logits.shape[-2:], dtype=torch.int32)
    segments: list[dict[str, Any]] = []
    stuff: dict[int, int] = {}
    if not kept:
        return result, segments
    masks = logits[kept].sigmoid()
    winner = (best[kept][:, None, None] * masks).argmax(dim=0)
    for place, query in enumerate(kept):
        category = int(label[query])
        won, own = winner == place, masks[place] >= 0.5
        inside = won & own
        if not inside.any() or int(won.sum()) / int(own.sum()) < overlap_threshold:
            continue
        if category not in stuff:
            segments.append({"id": len(segments) + 1, "category_id": category})
            if not isthing[category]:
                stuff[category] = len(segments)
        result[inside] = stuff.get(category, len(segments))
    for segment in segments:
        y, x = (result == segment["id"]).nonzero(as_tuple=True)
        corner = int(x.min()), int(y.min())
        segment["area"] = len(y)
        segment["bbox"] = [*corner, int(x.max()) + 1 - corner[0], int(y.max()) + 1 - corner[1]]
    return result, segments


def instances(scores: Tensor, logits: Tensor, isthing: list[bool], top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """N scores, N classes and N×H×W masks of the best pairs, the best first."""
    values, pairs = scores.flatten().topk(min(top_k, scores.numel()))
    query, label = pairs // scores.shape[1], pairs % scores.shape[1]
    thing = torch.tensor(isthing)[label]
    masks = logits[query[thing]]
    inside = (masks > 0).float()
    area = inside.flatten(1).sum(dim=1)
    quality = (masks.sigmoid() * inside).flatten(1).sum(dim=1) / area.clamp(min=1)
    final = values[thing] * quality
    order = final.argsort(descending=True, stable=True)
    order = order[area[order] > 0]
    return final[order], label[thing][order], inside[order].bool()
