"""Segments of a panoptic annotation, measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["box_of", "segment_info"]


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    """[left, top, width, height] of an H×W mask with at least one pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def segment_info(segment_id: int, category: int, mask: NDArray[np.bool_], *, iscrowd: int = 0) -> dict[str, Any]:
    """An entry of the COCO panoptic format's `segments_info` for an H×W mask with at least one pixel."""
    return {
        "id": segment_id,
        "category_id": category,
        "area": int(np.count_nonzero(mask)),
        "bbox": box_of(mask),
        "iscrowd": iscrowd,
    }
