"""Merging masks against the field's way, in which every mask is brought to full size first (Mask2Former, FC-CLIP)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import Case, Work
from possam.inference import MaskGrid, merge_instances, merge_panoptic, merge_semantic
from tests.reference import merging
from tests.reference.scenes import haze, scene

PLAIN = "all masks at full size"
QUERIES, GRID = 250, (256, 256)  # of a 1024×1024 input

Draw = Callable[..., tuple[Tensor, Tensor]]


def cases(device: str) -> list[Case]:
    """Scenes, where most masks matter in few places, and haze, where each may matter anywhere."""
    photo = {"padded_size": (1024, 1024), "image_size": (768, 1024), "output_size": (480, 640)}
    square = {"padded_size": (1024, 1024), "image_size": (1024, 1024), "output_size": (1024, 1024)}
    return [
        _case("133 classes, 640×480", scene, 133, photo, device, time_target=0.15),
        _case("133 classes, 640×480, worst case", haze, 133, photo, device),
        _case("847 classes, 1024×1024", scene, 847, square, device, runs=1),
        _case("847 classes, 1024×1024, worst case", haze, 847, square, device, runs=1),
    ]


def _case(name: str, draw: Draw, classes: int, sizes: dict[str, Any], device: str, **options: Any) -> Case:
    return Case(
        name=f"250 queries, {name}",
        reference=PLAIN,
        ours=partial(_ours, draw, classes, sizes, device),
        theirs=partial(_theirs, draw, classes, sizes, device),
        error=_differing,
        tolerance=4e-6,  # two sums may tie within the rounding of float32
        **options,
    )


def _ours(draw: Draw, classes: int, sizes: dict[str, Any], device: str) -> Work:
    scores, logits, isthing = _inputs(draw, classes, device)

    @torch.no_grad()
    def work() -> merging.Merged:
        masks = MaskGrid(logits, **sizes)
        ids, segments = merge_panoptic(scores, masks, isthing, object_threshold=0.1, overlap_threshold=0.8)
        semantic = merge_semantic(scores, masks)
        found = merge_instances(scores, masks, isthing)
        return merging.Merged(ids, segments, semantic, (found.scores, found.pred_classes, found.pred_masks))

    return work


def _theirs(draw: Draw, classes: int, sizes: dict[str, Any], device: str) -> Work:
    scores, logits, isthing = _inputs(draw, classes, device)
    return lambda: merging.merge(scores, logits, isthing, **sizes)


def _inputs(draw: Draw, classes: int, device: str) -> tuple[Tensor, Tensor, list[bool]]:
    scores, logits = draw(QUERIES, classes, GRID)
    return scores.to(device), logits.to(device), [index % 5 < 3 for index in range(classes)]


def _differing(ours: merging.Merged, theirs: merging.Merged) -> float:
    """Part of pixels and instances that differ."""
    pairs = [(ours.panoptic, theirs.panoptic), (ours.semantic, theirs.semantic)]
    pairs += list(zip(ours.instances[1:], theirs.instances[1:], strict=True))
    return max(float((one != other).float().mean()) for one, other in pairs)
