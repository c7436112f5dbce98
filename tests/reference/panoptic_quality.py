"""Panoptic quality the plain way: the algorithm of the COCO panoptic API, on ids as they stand in the PNGs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Counts", "count_image", "read_png", "total"]

VOID = 0
OFFSET = 256**3

Counts = dict[int, tuple[float, int, int, int]]
"""Class → sum of the IoU of matches, TP, FP, FN."""


def read_png(path: str | Path) -> NDArray[np.uint32]:
    """H×W ids of a panoptic PNG."""
    rgb = np.array(Image.open(path), dtype=np.uint32)
    return rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]


def count_image(
    truth: NDArray[np.integer],
    truth_segments: Sequence[Mapping[str, Any]],
    prediction: NDArray[np.integer],
    prediction_segments: Sequence[Mapping[str, Any]],
) -> Counts:
    """
    Args:
        truth, prediction: H×W ids, 0 for void.
        truth_segments: dicts with id, category_id, iscrowd, area.
        prediction_segments: dicts with id, category_id.
    """
    areas = _occurrences(prediction)
    pairs = _occurrences(truth.astype(np.uint64) * OFFSET + prediction.astype(np.uint64))
    iou: dict[int, float] = {}
    matched: dict[int, int] = {}  # predicted id → annotated id
    annotated = {segment["id"]: segment for segment in truth_segments}
    predicted = {segment["id"]: segment for segment in prediction_segments}
    for pair, intersection in pairs.items():
        t, p = divmod(pair, OFFSET)
        if t not in annotated or p not in predicted or annotated[t]["iscrowd"]:
            continue
        if annotated[t]["category_id"] != predicted[p]["category_id"]:
            continue
        union = annotated[t]["area"] + areas[p] - intersection - pairs.get(VOID * OFFSET + p, 0)
        if intersection / union > 0.5:
            iou[p], matched[p] = intersection / union, t
    crowds = {s["category_id"]: s["id"] for s in truth_segments if s["iscrowd"]}
    rows = [(predicted[p]["category_id"], value, 1, 0, 0) for p, value in iou.items()]
    rows += [
        (segment["category_id"], 0.0, 0, 0, 1)
        for segment in truth_segments
        if not segment["iscrowd"] and segment["id"] not in matched.values()
    ]
    for segment in prediction_segments:
        p = segment["id"]
        ignored = pairs.get(VOID * OFFSET + p, 0)
        if segment["category_id"] in crowds:
            ignored += pairs.get(crowds[segment["category_id"]] * OFFSET + p, 0)
        if p not in matched and ignored / areas[p] <= 0.5:
            rows.append((segment["category_id"], 0.0, 0, 1, 0))
    return total({category: (value, tp, fp, fn)} for category, value, tp, fp, fn in rows)


def total(images: Iterable[Counts]) -> Counts:
    """The sum over images."""
    result: Counts = {}
    for counts in images:
        for category, numbers in counts.items():
            before = result.get(category, (0.0, 0, 0, 0))
            result[category] = tuple(a + b for a, b in zip(before, numbers, strict=True))  # type: ignore[assignment]
    return result


def _occurrences(values: NDArray[np.integer]) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
