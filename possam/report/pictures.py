"""Pictures within a page, as data URIs: panels of an image and crops of single segments."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from possam.visualize import class_color, draw_panoptic
from possam.visualize.sizes import shrink_image, shrink_index

__all__ = ["crop", "data_uri", "panels"]

_LONGEST = 560
_CROP = 120
_QUALITY = 78


def panels(
    image: NDArray[np.uint8],
    truth: tuple[NDArray[np.int64], Sequence[Mapping[str, Any]]],
    prediction: tuple[NDArray[np.int64], Sequence[Mapping[str, Any]]],
    names: Sequence[str],
) -> dict[str, NDArray[np.uint8]]:
    """ "image", "annotation" and "prediction" of one image, H×W×3 uint8 RGB, all of one size.

    Args:
        image: H×W×3 uint8 RGB.
        truth, prediction: H×W, ``i + 1`` for segment i and 0 for none, and the segments with contiguous classes.
    """
    small = shrink_image(image, _LONGEST)
    drawn = {"image": draw_panoptic(small, np.zeros(small.shape[:2], dtype=np.int64), [], names)}
    for title, (index, segments) in (("annotation", truth), ("prediction", prediction)):
        numbered = [{**segment, "id": place + 1} for place, segment in enumerate(segments)]
        drawn[title] = draw_panoptic(small, shrink_index(index, _LONGEST), numbered, names)
    return drawn


def crop(image: NDArray[np.uint8], mask: NDArray[np.bool_], category: int) -> NDArray[np.uint8]:
    """A square around a segment (H×W bool, with at least one pixel), outlined in the color of its class."""
    rows, columns = np.nonzero(mask)
    middle = ((rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2)
    side = int(1.4 * max(np.ptp(rows), np.ptp(columns))) + 8
    slices = []
    for place, length in zip(middle, mask.shape, strict=True):
        first = int(np.clip(place - side // 2, 0, max(0, length - side)))
        slices.append(slice(first, min(length, first + side)))
    part, inside = image[slices[0], slices[1]], mask[slices[0], slices[1]].astype(np.float32)
    scale = _CROP / max(part.shape[:2])
    size = (max(1, round(scale * part.shape[1])), max(1, round(scale * part.shape[0])))
    picture = np.array(cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
    shown = (cv2.resize(inside, size, interpolation=cv2.INTER_LINEAR) >= 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(shown, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for color, width in (((0, 0, 0), 3), (class_color(category), 1)):
        cv2.polylines(picture, contours, True, color, width, cv2.LINE_AA)
    return picture.astype(np.uint8)


def data_uri(picture: NDArray[np.uint8]) -> str:
    """An H×W×3 uint8 RGB picture as the address of a JPEG that is part of the page."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
