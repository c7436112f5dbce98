"""Sizes that pictures are drawn at: small ones enlarged before anything is written on them, large ones shrunk on wish.

Shapes: H×W the picture.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["enlarge_image", "enlarge_index", "enlargement", "shrink_image", "shrink_index", "shrunk_size"]

_ENOUGH_PIXELS = 480  # of the longer side
_MAX_ENLARGEMENT = 24


def enlargement(image: NDArray[np.uint8]) -> int:
    """The whole number ≥ 1 by which an image is enlarged before anything is written on it."""
    return int(np.clip(-(-_ENOUGH_PIXELS // max(image.shape[:2])), 1, _MAX_ENLARGEMENT))


def enlarge_image(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """A copy of an image, `scale` times as large."""
    if scale == 1:
        return image.copy()
    height, width = image.shape[:2]
    resized = cv2.resize(image, (scale * width, scale * height), interpolation=cv2.INTER_CUBIC)
    return np.array(resized, dtype=np.uint8)


def enlarge_index(index: NDArray[np.int32], scale: int) -> NDArray[np.int32]:
    """Enlarge a map of segments with smooth borders: each pixel goes to the segment that is most around it."""
    if scale == 1:
        return index
    size = (scale * index.shape[1], scale * index.shape[0])
    result = np.zeros((size[1], size[0]), dtype=np.int32)
    strongest = np.zeros(result.shape, dtype=np.float32)
    for value in np.unique(index):
        share = cv2.resize((index == value).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        better = share > strongest
        result[better], strongest[better] = value, share[better]
    return result


def shrunk_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(height, width) with the longer side at `longest` pixels; itself where it is not longer."""
    scale = min(1.0, longest / max(size))
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def shrink_image(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """An H×W×3 uint8 image at `shrunk_size`."""
    height, width = shrunk_size((image.shape[0], image.shape[1]), longest)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def shrink_index(index: NDArray[np.integer], longest: int) -> NDArray[np.int32]:
    """An H×W map of small numbers at `shrunk_size`, each pixel taking the nearest."""
    height, width = shrunk_size((index.shape[0], index.shape[1]), longest)
    small = cv2.resize(index.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(small, dtype=np.int32)
