"""Masks of annotation files, polygons or run lengths, as compressed run-length masks that are safe to decode.

pycocotools believes what it is given: of runs that end before the mask does, it shows the memory that lay there, and a
polygon with a corner far away takes all memory or ends the process.

Shapes: H×W the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_coder

from possam.data.checks import is_number, pixel_size

__all__ = ["check_mask", "encode_mask", "shared_area", "to_run_lengths"]

_CORNERS = 3
_SHARE = 0.5  # of a stated box that a mask must reach over
_THIN = 2  # pixels; boxes narrower than that may hold no pixel of their mask
# COCO's coding of a number: five bits a character, the lowest first, then a flag "more follows"; from "0" on.
_ZERO, _BITS, _MORE, _SIGN = 48, 5, 0x20, 0x10
_LONGEST = 7  # characters for 32 bits


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """An H×W mask as COCO's compressed run lengths: ``size`` [H, W] and ``counts``, a text."""
    runs = mask_coder.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def to_run_lengths(segmentation: Any, size: tuple[int, int], *, source: str) -> dict[str, Any]:
    """Make a compressed run-length mask of COCO's other ways to write a mask, or check one that is.

    Args:
        segmentation: polygons [[x, y, …], …] in pixels, x first; or {"size": [H, W], "counts"} with runs as a list of
            numbers, or compressed as str or bytes.
        size: the image's (H, W).
        source: what messages call the image.
    Returns:
        {"size": [H, W], "counts": bytes}.

    Raises:
        ValueError: it is neither; the mask has another size, its runs do not fill it exactly, or its polygons are not
            numbers, are fractions of the image, have under three corners each, or lie farther outside of the image than
            it is wide or high; names `source`.
    """
    if isinstance(segmentation, Mapping):
        return _from_runs(segmentation, size, source)
    polygons = _polygons(segmentation, size, source)
    return mask_coder.merge(mask_coder.frPyObjects(polygons, *size))


def check_mask(
    segmentation: Any, size: tuple[int, int], *, box: Sequence[float], source: str
) -> tuple[float, float, float, float]:
    """Check a mask as `to_run_lengths` does, and that it reaches over half of the box that is stated for it or more.

    A mask elsewhere is one in other units, in another order of coordinates, or of another instance. Polygons are judged
    by their corners, which takes microseconds.

    Args:
        box: x, y, width and height in pixels, as the annotation file says.
    Returns:
        The mask's own box within the image, in the same form.

    Raises:
        ValueError: as `to_run_lengths`; or the mask covers no pixel, or less of the box; names `source`.
    """
    height, width = size
    if isinstance(segmentation, Mapping):
        runs = _from_runs(segmentation, size, source)
        if not mask_coder.area(runs):
            raise ValueError(f"the mask of {source} covers no pixel; remove the annotation, or export it again.")
        x, y, w, h = mask_coder.toBbox(runs).tolist()
        own = x, y, w, h
    else:
        polygons = _polygons(segmentation, size, source)
        left, right = min(min(p[::2]) for p in polygons), max(max(p[::2]) for p in polygons)
        top, bottom = min(min(p[1::2]) for p in polygons), max(max(p[1::2]) for p in polygons)
        if right < 0 or left > width or bottom < 0 or top > height:
            raise ValueError(
                f"the polygons of {source} lie outside of the image, which is {pixel_size(size)}: "
                f"{segmentation!r:.120}; x and y are pixels, x first."
            )
        own = _clip((left, top, right - left, bottom - top), size)
    stated = _clip(box, size)
    if min(stated[2:]) >= _THIN and shared_area(own, stated, margin=1) < _SHARE * stated[2] * stated[3]:
        raise ValueError(
            f"the mask of {source} lies in {_shown(own)} (x, y, width, height), under half of its bbox {_shown(box)}; "
            "both are in pixels, x first: export it again."
        )
    return own


def shared_area(own: Sequence[float], other: Sequence[float], *, margin: float) -> float:
    """How much of the box `other` lies in the box `own`, which is enlarged by `margin` on all sides; both XYWH."""
    width = min(own[0] + own[2] + margin, other[0] + other[2]) - max(own[0] - margin, other[0])
    height = min(own[1] + own[3] + margin, other[1] + other[3]) - max(own[1] - margin, other[1])
    return max(width, 0.0) * max(height, 0.0)


def _clip(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part of a box XYWH in an image of (height, width)."""
    left, right = (float(min(max(x, 0), size[1])) for x in (box[0], box[0] + box[2]))
    top, bottom = (float(min(max(y, 0), size[0])) for y in (box[1], box[1] + box[3]))
    return left, top, right - left, bottom - top


def _shown(box: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"


def _polygons(segmentation: Any, size: tuple[int, int], source: str) -> list[Any]:
    """The polygons of a segmentation that have three corners; ValueError where there are none, as `to_run_lengths`."""
    if not isinstance(segmentation, list | tuple):
        raise ValueError(
            f"{source} has no mask: expected polygons [[x, y, x, y, …], …] or a run-length mask {{size, counts}}, but "
            f"got {segmentation!r:.80}."
        )
    segmentation = [polygon.tolist() if isinstance(polygon, np.ndarray) else polygon for polygon in segmentation]
    for polygon in segmentation:
        if not isinstance(polygon, list | tuple) or len(polygon) % 2:
            raise ValueError(
                f"{source} has no mask: a polygon is a list of an even number of numbers, [x, y, x, y, …], but got "
                f"{polygon!r:.80}."
            )
        _check_polygon(polygon, size, source)
    # A polygon of under three points covers nothing, and pycocotools takes four numbers for a box.
    polygons = [polygon for polygon in segmentation if len(polygon) >= 2 * _CORNERS]
    if not polygons:
        raise ValueError(
            f"{source} has no mask: none of its polygons has three corners, six numbers: {segmentation!r:.80}; corners "
            "follow each other in one list [x, y, x, y, …], not as pairs."
        )
    if max(size) > _THIN and all(0 <= min(p) and max(p) <= 1 for p in polygons):
        raise ValueError(
            f"the polygons of {source} lie between 0 and 1: {segmentation!r:.120}; corners are in pixels of the image, "
            f"which is {pixel_size(size)}, not fractions of it."
        )
    return polygons


def _check_polygon(polygon: Sequence[Any], size: tuple[int, int], source: str) -> None:
    height, width = size
    if not _are_numbers(polygon):
        raise ValueError(
            f"a polygon of {source} has corners that are not numbers: {polygon!r:.120}; corners follow each other in "
            "one list [x, y, x, y, …]: export it again."
        )
    xs, ys = polygon[::2] or [0], polygon[1::2] or [0]
    if min(xs) < -width or max(xs) > 2 * width or min(ys) < -height or max(ys) > 2 * height:
        raise ValueError(
            f"a polygon of {source} has corners far outside of the image, which is {pixel_size(size)}: "
            f"{polygon!r:.120}; x and y are pixels, x first."
        )


def _are_numbers(values: Sequence[Any]) -> bool:
    """`is_number` of all values, which are many."""
    if not {*map(type, values)} <= {int, float}:
        return all(map(is_number, values))
    try:
        return math.isfinite(sum(values, 0.0))
    except OverflowError:  # an integer that no float can hold
        return False


def _from_runs(segmentation: Mapping[str, Any], size: tuple[int, int], source: str) -> dict[str, Any]:
    height, width = size
    if "size" not in segmentation or "counts" not in segmentation:
        raise ValueError(
            f"{source} has no mask: expected polygons [[x, y, x, y, …], …] or a run-length mask {{size, counts}}, but "
            f"got an object with the keys {sorted(map(str, segmentation))[:8]}."
        )
    stated, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(stated, list | tuple) or list(stated) != [height, width]:
        shown = pixel_size(stated) if isinstance(stated, list | tuple) and len(stated) == 2 else f"{stated!r:.80}"
        raise ValueError(
            f"a run-length mask of {source} is {shown}, but its image is {pixel_size(size)}; "
            "the two must have the same size."
        )
    runs = _numbers(counts)
    if runs is None or runs.min(initial=0) < 0 or int(runs.sum()) != height * width:
        told = "are not numbers" if runs is None else f"cover {int(runs.sum())} pixels or are negative"
        raise ValueError(
            f"the runs of a mask of {source} {told}, but must fill its {height * width} pixels exactly: "
            f"{counts!r:.80}; export it again."
        )
    if isinstance(counts, list | tuple):
        return mask_coder.frPyObjects({"size": [height, width], "counts": list(counts)}, height, width)
    return {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}


def _numbers(counts: Any) -> NDArray[np.int64] | None:
    """The runs that `counts` stands for; None where it stands for none."""
    if isinstance(counts, list | tuple):
        if not counts or any(type(count) is not int or not 0 <= count < 1 << 32 for count in counts):
            return None
        return np.asarray(counts, dtype=np.int64)
    if isinstance(counts, str):
        counts = counts.encode(errors="replace")
    return _decompress(np.frombuffer(counts, dtype=np.uint8)) if isinstance(counts, bytes) else None


def _decompress(characters: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """The runs of COCO's compressed string (cocodataset/cocoapi, maskApi.c); None where it is none."""
    values = characters.astype(np.int64) - _ZERO
    if not len(values) or values.min() < 0 or values.max() >= 2 * _MORE or values[-1] & _MORE:
        return None
    starts = np.flatnonzero(np.r_[True, (values[:-1] & _MORE) == 0])
    lengths = np.diff(np.r_[starts, len(values)])
    if lengths.max() > _LONGEST:
        return None
    place = np.arange(len(values)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((values & (_MORE - 1)) << (_BITS * place), starts)
    # The last character's sign continues to all higher bits.
    negative = (values[starts + lengths - 1] & _SIGN) != 0
    numbers -= np.where(negative, np.left_shift(1, _BITS * lengths), 0)
    # From the fourth on, a run is written as its difference to the one before the last.
    for parity in (1, 2):
        numbers[parity::2] = numbers[parity::2].cumsum()
    return numbers
