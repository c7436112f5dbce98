"""Names of segments: a chip of the class's color, in the ink that can be read on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from possam.visualize.colors import BLACK, RGB, WHITE, ink_on, mix
from possam.visualize.fonts import font_for, shortened, text_width
from possam.visualize.layout import Box, Layout, Place

__all__ = ["Label", "Written", "label_size", "write_labels"]

_SEARCH_SIDE = 1024  # of the map that places are searched on
_SMALLEST = 11  # pixels that a letter needs to be read
_SHRINK = (1.0, 0.85, 0.7)
_WIDE = 160  # pixels that a label may have in any picture that is wider; in wide ones it may have half the width


@dataclass(frozen=True)
class Label:
    """A name to be written: segment i of the index map, its text and color."""

    segment: int
    text: str
    color: RGB


@dataclass(frozen=True)
class Written:
    """A label on the picture: its chip, in pixels, the size of its letters, and its line where it has one."""

    label: Label
    box: Box
    size: int
    line: tuple[tuple[int, int], tuple[int, int]] | None = None


def label_size(size: tuple[int, int]) -> int:
    """Size of the letters, in pixels, on a picture of (width, height)."""
    return max(15, round(0.02 * (size[0] * size[1]) ** 0.5))


def write_labels(
    picture: NDArray[np.uint8],
    index: NDArray[np.int32],
    boxes: Sequence[Box],
    labels: Sequence[Label],
    *,
    number: bool,
) -> tuple[list[Written], list[Label]]:
    """Write names on a picture, in place, none over another.

    Args:
        picture: H×W×3 uint8 RGB.
        index: H×W int32: 0 for no segment, ``i + 1`` for segment i.
        boxes: around every segment's pixels.
        labels: of segments that have pixels.
        number: whether to write "1", "2" … in place of names that find no room.

    Returns:
        What was written, and the labels that found no room, in their order; their numbers count from 1, and those that
        were written are in the first list, too.
    """
    writer = _Writer(index, boxes)
    # Small segments have one place for their name, large ones have many.
    waiting = sorted(labels, key=lambda label: _area(boxes[label.segment]))
    crowded = [label for label in waiting if not writer.inside(label)]
    # Names beside their segments take room from others, so the largest segments choose first.
    homeless = [label for label in reversed(crowded) if not writer.beside(label)]
    homeless.sort(key=lambda label: label.segment)
    for position, label in enumerate(homeless if number else ()):
        mark = replace(label, text=str(position + 1))
        writer.inside(mark) or writer.beside(mark)
    for item in writer.written:
        _draw_line(picture, item)
    for item in writer.written:
        _draw_chip(picture, item)
    return writer.written, homeless


class _Writer:
    """Finds places for names, each at the largest size that fits."""

    def __init__(self, index: NDArray[np.int32], boxes: Sequence[Box]) -> None:
        self.picture = (index.shape[1], index.shape[0])
        self.step = -(-max(self.picture) // _SEARCH_SIDE)
        self.layout = Layout(*_reduced(index, boxes, self.step))
        self.widest = max(self.picture[0] // 2, min(self.picture[0] - 2 * self.step, _WIDE))
        base = label_size(self.picture)
        self.sizes = sorted({max(_SMALLEST, round(base * share)) for share in _SHRINK}, reverse=True)
        self.written: list[Written] = []

    def inside(self, label: Label) -> bool:
        """Write a name on its segment, or say that it does not fit."""
        return any(self._write(self.layout.place_on, label, size) for size in self.sizes)

    def beside(self, label: Label) -> bool:
        """Write a name near its segment, with a line, or say that there is no room."""
        return self._write(self.layout.place_beside, label, self.sizes[-1])

    def _write(self, place: Callable[[int, tuple[int, int]], Place | None], label: Label, size: int) -> bool:
        text = shortened(label.text, size, self.widest - 2 * _margin(size))
        if not text:
            return False
        extent = _extent(text, size)
        # In the reduced map, with a gap around.
        reduced = (-(-extent[0] // self.step) + 2, -(-extent[1] // self.step) + 2)
        found = place(label.segment, reduced)
        if found is None:
            return False
        left, top = (self.step * (edge + 1) for edge in found.box[:2])
        line = None
        if found.line is not None:
            (x, y), (end_x, end_y) = found.line
            line = ((self.step * x, self.step * y), (self.step * end_x, self.step * end_y))
        box = (left, top, left + extent[0], top + extent[1])
        self.written.append(Written(replace(label, text=text), box, size, line))
        return True


def _reduced(index: NDArray[np.int32], boxes: Sequence[Box], step: int) -> tuple[NDArray[np.int32], list[Box]]:
    """Every `step`-th pixel; segments that these miss keep one."""
    if step == 1:
        return index, list(boxes)
    small = np.ascontiguousarray(index[::step, ::step])
    height, width = small.shape
    for i in np.setdiff1d(np.arange(1, len(boxes) + 1), small):
        left, top, right, bottom = boxes[i - 1]
        rows, columns = np.nonzero(index[top:bottom, left:right] == i)
        if len(rows):
            middle = len(rows) // 2
            small[(rows[middle] + top) // step, (columns[middle] + left) // step] = i
    reduced = [
        (left // step, top // step, min(width, -(-right // step)), min(height, -(-bottom // step)))
        for left, top, right, bottom in boxes
    ]
    return small, reduced


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _margin(size: int) -> int:
    return max(3, round(0.3 * size))


def _extent(text: str, size: int) -> tuple[int, int]:
    """Width and height of a chip in pixels."""
    ascent, descent = font_for(text, size).getmetrics()
    return text_width(text, size) + 2 * _margin(size), ascent + descent


def _draw_line(picture: NDArray[np.uint8], item: Written) -> None:
    """The line from a chip to its segment, light within dark, so that it shows on anything."""
    if item.line is None:
        return
    thin = max(1, round(item.size / 9))
    start, end = item.line
    for color, more in ((mix(item.label.color, BLACK, 0.7), 2), (mix(item.label.color, WHITE, 0.75), 0)):
        cv2.line(picture, start, end, color, thin + more, cv2.LINE_AA)
        cv2.circle(picture, start, round(0.16 * item.size) + more // 2, color, cv2.FILLED, cv2.LINE_AA)


def _draw_chip(picture: NDArray[np.uint8], item: Written) -> None:
    left, top, right, bottom = item.box
    paper, size = item.label.color, (right - left, bottom - top)
    patch = Image.fromarray(picture[top:bottom, left:right])
    border = max(1, item.size // 14)
    patch.paste(mix(paper, BLACK, 0.5), mask=_rounded(size, 0))
    patch.paste(paper, mask=_rounded(size, border))
    font = font_for(item.label.text, item.size)
    ascent, _ = font.getmetrics()
    pen = ImageDraw.Draw(patch)
    pen.text((_margin(item.size), ascent), item.label.text, fill=ink_on(paper), font=font, anchor="ls")
    picture[top:bottom, left:right] = np.asarray(patch)


def _rounded(size: tuple[int, int], inset: int) -> Image.Image:
    """Mask of a rounded rectangle, `inset` pixels within one of `size`, with smooth corners."""
    fine = 4
    width, height = size
    mask = Image.new("L", (fine * width, fine * height), 0)
    box = [fine * inset, fine * inset, fine * (width - inset) - 1, fine * (height - inset) - 1]
    radius = fine * max(1, height // 5 - inset)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius=radius, fill=255)
    return mask.reduce(fine)
