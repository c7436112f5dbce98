"""Where labels go: on their segments where there is room, else beside them with a line, and never on each other.

The search runs on a map of segments that is reduced to about a thousand pixels, so that it costs the same for any
picture. Boxes are (left, top, right, bottom) in pixels, right and bottom not included. Points are (x, y).

Shapes: H×W the reduced map, h×w a window of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "Layout", "Place"]

Box = tuple[int, int, int, int]
Point = tuple[int, int]

_INSIDE = 0.6  # share of a label that must lie on its own segment, or else it is moved away and gets a line
_REACH = 9  # longest line, in heights of the label
_STRIDE = 3  # of the positions that are tried beside a segment
_TRIES = 150


@dataclass(frozen=True)
class Place:
    """A label's box and, where it lies beside its segment, the two ends of a line: on the segment, on the box."""

    box: Box
    line: tuple[Point, Point] | None = None


class Layout:
    """The places taken so far on one picture."""

    def __init__(self, index: NDArray[np.integer], boxes: Sequence[Box]) -> None:
        """
        Args:
            index: H×W, 0 for no segment, ``i + 1`` for segment i.
            boxes: around every segment's pixels.
        """
        self.index = index
        self.boxes = boxes
        self._taken: NDArray[np.uint8] = np.zeros(index.shape, dtype=np.uint8)
        areas = np.bincount(index.ravel(), minlength=len(boxes) + 1).astype(np.float32)
        self._small = (1 / np.maximum(areas, 1))[index]  # what hiding a pixel costs: all of a segment costs 1
        self._small[index == 0] = 0

    def place_on(self, segment: int, extent: tuple[int, int]) -> Place | None:
        """Put a label of (width, height) on segment i; None where less than `_INSIDE` of it finds room there."""
        width, height = extent
        left, top, right, bottom = self.boxes[segment]
        # A label may stick out of its segment by what it may not lie on it.
        aside, above = round((1 - _INSIDE) * width) + 1, round((1 - _INSIDE) * height) + 1
        window = self._window((left - aside, top - above, right + aside, bottom + above))
        own = (self.index[window] == segment + 1).astype(np.uint8)
        if own.shape[0] < height or own.shape[1] < width:
            return None
        cover = _sums(own, extent) / (width * height)
        allowed = (_sums(self._taken[window], extent) == 0) & (cover >= _INSIDE)
        if not allowed.any():
            return None
        hidden = _sums(np.where(own > 0, 0, self._small[window]).astype(np.float32), extent)
        # Among places that are as good, the one whose middle is deepest inside.
        depth = cv2.distanceTransform(np.pad(own, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        depth = depth[height // 2 :, width // 2 :][: cover.shape[0], : cover.shape[1]]
        value = np.where(allowed, cover - hidden + 0.3 * depth / depth.max(), -np.inf)
        y, x = divmod(int(value.argmax()), value.shape[1])
        x, y = x + window[1].start, y + window[0].start
        return self._take(Place((x, y, x + width, y + height)))

    def place_beside(self, segment: int, extent: tuple[int, int]) -> Place | None:
        """Put a label of (width, height) near segment i, with a line to it; None where there is no room."""
        width, height = extent
        x0, y0 = self._heart(segment)
        reach = _REACH * height
        window = self._window((x0 - reach - width, y0 - reach, x0 + reach + width, y0 + reach))
        taken = self._taken[window]
        if taken.shape[0] < height or taken.shape[1] < width:
            return None
        free = (_sums(taken, extent) == 0)[::_STRIDE, ::_STRIDE]
        hidden = _sums(self._small[window], extent)[::_STRIDE, ::_STRIDE]
        y, x = np.nonzero(free)
        left, top = _STRIDE * x + window[1].start, _STRIDE * y + window[0].start
        aside = x0 - np.clip(x0, left, left + width)
        above = y0 - np.clip(y0, top, top + height)
        distance = np.hypot(aside, above)
        cost = distance / height + 12 * hidden[y, x]
        # On its own heart the label would hide what it names; a line shorter than that cannot be seen.
        good = np.flatnonzero((distance >= 0.4 * height) & (distance <= reach))
        for i in good[np.argsort(cost[good], kind="stable")][:_TRIES]:
            end = (x0 - int(aside[i]), y0 - int(above[i]))
            if self._is_clear((x0, y0), end):
                box = (int(left[i]), int(top[i]), int(left[i]) + width, int(top[i]) + height)
                return self._take(Place(box, ((x0, y0), end)))
        return None

    def _window(self, box: Box) -> tuple[slice, slice]:
        height, width = self.index.shape
        left, top, right, bottom = box
        return slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))

    def _heart(self, segment: int) -> Point:
        """The pixel of a segment that is farthest from its border."""
        left, top, right, bottom = self.boxes[segment]
        own = np.pad(self.index[top:bottom, left:right] == segment + 1, 1).astype(np.uint8)
        depth = cv2.distanceTransform(own, cv2.DIST_L2, 3)
        y, x = divmod(int(depth.argmax()), depth.shape[1])
        return left + x - 1, top + y - 1

    def _is_clear(self, start: Point, end: Point) -> bool:
        count = max(abs(end[0] - start[0]), abs(end[1] - start[1])) + 1
        height, width = self._taken.shape
        x = np.linspace(start[0], end[0], count).round().astype(np.int64).clip(0, width - 1)
        y = np.linspace(start[1], end[1], count).round().astype(np.int64).clip(0, height - 1)
        return not self._taken[y, x].any()

    def _take(self, place: Place) -> Place:
        left, top, right, bottom = place.box
        self._taken[top:bottom, left:right] = 1
        if place.line is not None:
            cv2.line(self._taken, *place.line, color=1, thickness=3)
        return place


def _sums(values: NDArray[np.uint8] | NDArray[np.float32], extent: tuple[int, int]) -> NDArray[np.floating]:
    """Sums over every box of (width, height) that fits in a window: (h − height + 1)×(w − width + 1) floats."""
    width, height = extent
    table = cv2.integral(values, sdepth=cv2.CV_64F)
    return table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]
