"""Segments laid over an image: tinted, outlined, and named.

Images are H×W×3 uint8 RGB in [0, 255]; a segmentation is an H×W map of segment ids (0: none) with its
``segments_info``, as models and datasets of this project give them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from possam.data.id_maps import index_ids
from possam.visualize.colors import RGB, WHITE, mix
from possam.visualize.labels import Label, write_labels
from possam.visualize.layout import Box
from possam.visualize.legend import Row, beside, draw_legend
from possam.visualize.segment_colors import segment_colors
from possam.visualize.sizes import enlarge_image, enlarge_index, enlargement

__all__ = ["Segmented", "check_segmentation", "draw_panoptic"]

Segmented = tuple[NDArray[np.integer] | Tensor, Sequence[Mapping[str, Any]]]

_BAND = 1 << 21  # pixels that are tinted at a time, which keeps the memory for it small
_CONTOUR_SIDE = 2048  # contours of larger pictures are followed in coarser steps, thinner than the line drawn


def draw_panoptic(
    image: NDArray[np.uint8],
    id_map: NDArray[np.integer] | Tensor,
    segments_info: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    opacity: float = 0.5,
    labels: bool = True,
    all_labels: bool = False,
) -> NDArray[np.uint8]:
    """Lay segments over an image: tinted with a shade of their class's color (`segment_colors`), outlined, and named.

    A name stands on its segment, or beside it with a line where it does not fit; no two overlap, and letters, lines
    and outlines grow with the picture.

    Args:
        image: H×W×3 uint8 RGB.
        id_map: H×W segment ids; 0, and ids that are not listed, stay as they are.
        segments_info: dicts with ``id`` and a contiguous ``category_id``.
        names: display name of each class.
        opacity: of the tint, in [0, 1].
        labels: whether to write names. Those that find no room in a crowd are left out.
        all_labels: list these at the right of the picture, which becomes wider, with numbers that stand at their
            segments; where not even a number finds room, the segment's place in pixels (x, y) is given.

    Returns:
        sH×sW×3 uint8 RGB, and wider with a list. Small images are enlarged by a whole number s ≤ 24, so that names
        can be read: up to a longer side of 480 pixels or a little more.

    Raises:
        ValueError: shapes do not fit, a class has no name, or the opacity is out of range.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in [0, 1], but got {opacity}.")
    check_segmentation(image, id_map, segments_info, names)
    scale = enlargement(image)
    index = index_ids(np.asarray(id_map), [info["id"] for info in segments_info]).clip(0).astype(np.int32)
    colors = segment_colors(index, [info["category_id"] for info in segments_info])
    index = enlarge_index(index, scale)
    result = enlarge_image(image, scale)
    _tint(result, index, colors, opacity)
    boxes = _boxes(index, len(segments_info))
    present = [i for i, box in enumerate(boxes) if box != _NOWHERE]
    for i in present:
        _outline(result, index, i, boxes[i], colors[i])
    if not (labels or all_labels):
        return result
    texts = [names[info["category_id"]] + (" (crowd)" if info.get("iscrowd") else "") for info in segments_info]
    wanted = [Label(i, texts[i], colors[i]) for i in present]
    written, homeless = write_labels(result, index, boxes, wanted, number=all_labels)
    if all_labels and homeless:
        numbered = {item.label.segment: item.label.text for item in written}
        rows = [_row(label, numbered.get(label.segment), boxes[label.segment], scale) for label in homeless]
        result = beside(result, draw_legend(rows, len(result)))
    return result


_NOWHERE: Box = (0, 0, 0, 0)


def check_segmentation(
    image: NDArray[np.uint8],
    id_map: NDArray[np.integer] | Tensor,
    segments_info: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> None:
    """Raises ValueError where an image and its segmentation do not fit each other, or a class has no name."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be H×W×3 uint8 RGB, but is {image.dtype} of shape {image.shape}.")
    if tuple(id_map.shape) != image.shape[:2]:
        raise ValueError(
            f"segmentation has shape {tuple(id_map.shape)}, but the image is {image.shape[:2]} (height, width)."
        )
    unnamed = sorted({i["category_id"] for i in segments_info if not 0 <= i["category_id"] < len(names)})
    if unnamed:
        raise ValueError(f"classes {unnamed} have no name; {len(names)} names were given.")


def _tint(picture: NDArray[np.uint8], index: NDArray[np.int32], colors: Sequence[RGB], opacity: float) -> None:
    table = np.array([(0, 0, 0), *colors], dtype=np.uint8)
    rows = max(1, _BAND // picture.shape[1])
    for top in range(0, len(picture), rows):
        band, segment = picture[top : top + rows], index[top : top + rows]
        mixed = cv2.addWeighted(band, 1 - opacity, table.take(segment, axis=0, mode="clip"), opacity, 0)
        cv2.copyTo(mixed, (segment > 0).view(np.uint8), band)


def _boxes(index: NDArray[np.int32], count: int) -> list[Box]:
    """Around the pixels of every segment; `_NOWHERE` for one without."""
    found = ndimage.find_objects(index, max_label=count)
    return [
        (place[1].start, place[0].start, place[1].stop, place[0].stop) if place is not None else _NOWHERE
        for place in found
    ]


def _outline(picture: NDArray[np.uint8], index: NDArray[np.int32], segment: int, box: Box, color: RGB) -> None:
    """Draw a segment's border, in place, in a light shade of its color."""
    longest = max(index.shape)
    step = -(-longest // _CONTOUR_SIDE)
    left, top, right, bottom = box
    own = (index[top:bottom:step, left:right:step] == segment + 1).astype(np.uint8)
    contours, _ = cv2.findContours(own, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    lines = [contour * step + np.array((left, top)) for contour in contours]
    cv2.polylines(picture, lines, True, mix(color, WHITE, 0.65), max(1, round(longest / 800)), cv2.LINE_AA)


def _row(label: Label, number: str | None, box: Box, scale: int) -> Row:
    x, y = ((first + last) // 2 // scale for first, last in ((box[0], box[2]), (box[1], box[3])))
    return Row(color=label.color, text=label.text, number=number or "", note="" if number else f"at {x}, {y}")
