"""Masks of annotation files, polygons or run lengths, as compressed run-length masks that are safe to decode.

pycocotools believes what it is given: of runs that end before the mask does, it shows the memory that lay there, and a
polygon with a corner far away takes all memory or ends the process.

Shapes: H×W the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_coder

from possam.data.checks import is_number, pixel_size

__all__ = ["to_run_lengths"]

_CORNERS = 3
# COCO's coding of a number: five bits a character, the lowest first, then a flag "more follows"; from "0" on.
_ZERO, _BITS, _MORE, _SIGN = 48, 5, 0x20, 0x10
_LONGEST = 7  # characters for 32 bits


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
        ValueError: the mask has another size, its runs do not fill it exactly, or its polygons are not numbers or lie
            farther outside of the image than it is wide or high; names `source`.
    """
    if isinstance(segmentation, Mapping):
        return _from_runs(segmentation, size, source)
    # A polygon of under three points covers nothing, and pycocotools takes four numbers for a box.
    polygons = [polygon for polygon in segmentation if len(polygon) >= 2 * _CORNERS]
    height, width = size
    for polygon in polygons:
        _check_polygon(polygon, size, source)
    if not polygons:
        return mask_coder.encode(np.zeros((height, width), dtype=np.uint8, order="F"))
    return mask_coder.merge(mask_coder.frPyObjects(polygons, height, width))


def _check_polygon(polygon: Sequence[Any], size: tuple[int, int], source: str) -> None:
    height, width = size
    if not all(map(is_number, polygon)):
        raise ValueError(f"a polygon of {source} has corners that are not numbers: {polygon!r:.120}; export it again.")
    xs, ys = polygon[::2], polygon[1::2]
    if min(xs) < -width or max(xs) > 2 * width or min(ys) < -height or max(ys) > 2 * height:
        raise ValueError(
            f"a polygon of {source} has corners far outside of the image, which is {pixel_size(size)}: "
            f"{polygon!r:.120}; x and y are pixels, x first."
        )


def _from_runs(segmentation: Mapping[str, Any], size: tuple[int, int], source: str) -> dict[str, Any]:
    height, width = size
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
