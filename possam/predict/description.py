"""Segments as dicts of plain numbers and names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from possam.models import Prediction
from possam.vocabulary import Level, Vocabulary

__all__ = ["boxes_and_areas", "describe_path", "describe_segments", "top_names_of"]

_TOP = 5  # names listed of each segment


def boxes_and_areas(id_map: NDArray[np.int32], count: int) -> list[tuple[list[int], int] | None]:
    """Box [x, y, width, height] and area in pixels of the segments 1 to `count`; None for one without a pixel."""
    from scipy import ndimage  # here: importing the package stays fast

    areas = np.bincount(id_map.ravel(), minlength=count + 1).tolist()
    found: list[tuple[list[int], int] | None] = []
    for place, area in zip(ndimage.find_objects(id_map, max_label=count), areas[1:], strict=True):
        if place is None:
            found.append(None)
            continue
        rows, columns = place
        found.append(([columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start], area))
    return found


def describe_segments(
    id_map: NDArray[np.int32], segments: Sequence[dict[str, Any]], seen: Sequence[float], prediction: Prediction
) -> list[dict[str, Any]]:
    names = prediction.vocabulary.display_names
    infos = []
    for segment, found in zip(segments, boxes_and_areas(id_map, len(segments)), strict=True):
        assert found is not None, "merging numbers segments that have a pixel"
        box, area = found
        infos.append(
            {
                "id": segment["id"],
                "label": names[segment["category_id"]],
                "label_id": segment["category_id"],
                "isthing": segment["isthing"],
                "score": float(segment["score"]),
                "iou": float(prediction.inputs.iou[segment["query"]]),
                "seen_confidence": seen[segment["query"]],
                "area": area,
                "bbox": box,
                "query": segment["query"],
            }
        )
    return infos


def top_names_of(
    scores: torch.Tensor, infos: Sequence[dict[str, Any]], vocabulary: Vocabulary
) -> list[list[tuple[str, float]]]:
    """The best names of each segment's mask and their scores, best first; the first of equals, as the merging takes."""
    values, order = scores[[info["query"] for info in infos]].sort(dim=1, descending=True, stable=True)
    names = vocabulary.display_names
    return [
        [(names[label], score) for label, score in zip(labels, row, strict=True)]
        for labels, row in zip(order[:, :_TOP].tolist(), values[:, :_TOP].tolist(), strict=True)
    ]


def describe_path(path: Sequence[Level], vocabulary: Vocabulary) -> dict[str, Any]:
    levels = [
        {"label": vocabulary.display_names[node], "label_id": node, "probability": probability}
        for node, probability in path
    ]
    return {"path": levels, "path_probability": math.prod(level.probability for level in path)}
