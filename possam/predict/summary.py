"""What was found in an image, in a line of text or in JSON, and parts that results have in common."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_coder

__all__ = ["describe_found", "found_line", "found_record", "png_bytes", "run_lengths"]

_SHOWN_SIDE = 1280  # pixels of the longer side of a picture in a notebook
_NAMES = 6  # listed in a repr


def describe_found(
    image: NDArray[np.uint8], found: Sequence[Mapping[str, Any]], file_name: str, what: str = "segment"
) -> str:
    """One line: the file, its size as width×height, how many were found, and their names with counts.

    Args:
        image: H×W×3.
        found: dicts with ``label``.
        what: the kind that is counted.
    """
    counts: dict[str, int] = {}
    for one in found:
        counts[one["label"]] = counts.get(one["label"], 0) + 1
    names = [f"{label} ×{count}" if count > 1 else label for label, count in counts.items()]
    more = [f"… {len(names) - _NAMES} more names"] if len(names) > _NAMES else []
    listed = ": " + ", ".join(names[:_NAMES] + more) if names else ""
    number = f"{len(found) or 'no'} {what}{'' if len(found) == 1 else 's'}"
    start = f"{file_name!r}, " if file_name else ""
    return f"{start}{image.shape[1]}×{image.shape[0]}, {number}{listed}"


def found_line(name: str, found: Sequence[Mapping[str, Any]], pixels: int) -> str:
    """One line of `possam segment`: each name with its count, its share of the image's pixels and its best score, the
    largest first.

    Args:
        name: of the image.
        found: dicts with ``label``, ``area`` in pixels and ``score``.
        pixels: of the image.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        groups.setdefault(one["label"], []).append(one)
    areas = {label: sum(one["area"] for one in group) for label, group in groups.items()}
    parts = [
        f"{label} ×{len(groups[label])} {100 * areas[label] / pixels:.1f} % "
        f"{max(one['score'] for one in groups[label]):.2f}"
        for label in sorted(groups, key=lambda label: -areas[label])
    ]
    return f"{name}: {', '.join(parts) or 'nothing found'}"


def found_record(name: str, image: NDArray[np.uint8], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `possam segment --json` prints of an image.

    Returns:
        ``image`` (its name), ``width`` and ``height`` in pixels, and ``found``: a dict each with ``label``, ``score``
        in [0, 1], ``area`` in pixels and ``bbox`` [x, y, width, height] in pixels; of a segment also ``id`` and
        ``isthing``.
    """
    keys = ("id", "label", "isthing", "score", "area", "bbox")
    height, width = image.shape[:2]
    return {
        "image": name,
        "width": width,
        "height": height,
        "found": [{key: one[key] for key in keys if key in one} for one in found],
    }


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """An H×W mask as COCO's compressed run lengths: ``size`` [H, W] and ``counts``, a text."""
    runs = mask_coder.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as PNG, at most 1280 pixels a side."""
    shown = picture.copy()
    shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return buffer.getvalue()
