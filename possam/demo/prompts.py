"""Functions of the demo's page for models that take prompts: segment and name objects by clicks and boxes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from possam.data.pictures import Picture
from possam.demo.typed import read_words
from possam.layers.prompts import POSITIVE, Prompts
from possam.predict.predictor import Predictor
from possam.predict.prompted_result import PromptedResult, draw_prompt
from possam.predict.prompting import EncodedImage, EverythingOptions, parse_prompts
from possam.visualize.sizes import enlarge_image, enlargement
from possam.vocabulary import Vocabulary

__all__ = [
    "MODES",
    "SIDE",
    "Clicks",
    "add_click",
    "clear",
    "click",
    "find_everything",
    "keep",
    "place_of_click",
    "rename",
    "start",
]

MODES = {"on the object": 1, "outside it": 0, "corner of a box": None}
"""Meanings of a click, each with the label of the point that it adds; None for the corner of a box."""
SIDE = 1280
"""A page shows no more pixels; a larger picture is drawn in this size, not drawn and then shrunk."""
_NO_PICTURE = "There is no picture: drop one into the field."
_CORNER_COLOR = (255, 200, 40)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clicks:
    """A picture with its clicks and masks.

    Attributes:
        image: the picture, encoded once for all clicks.
        points, labels: x and y in pixels of the picture, and 1 (on the object) or 0 (outside it).
        corner: the first corner of a box that waits for its second.
        box: x0, y0, x1, y1 in pixels.
        around: a box around the object as it is known so far; until a box is drawn it is part of the prompt, widened to
            the points on the object.
        result: the mask that was asked for; None before the first point on the object or box.
        kept: masks of objects before.
    """

    image: EncodedImage
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    corner: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    around: tuple[float, float, float, float] | None = None
    result: PromptedResult | None = None
    kept: PromptedResult | None = None

    @property
    def given(self) -> bool:
        """True if there is a point, a box or a corner of one."""
        return bool(self.points) or self.box is not None or self.corner is not None

    @property
    def masks(self) -> PromptedResult | None:
        """Kept masks, and then the one that was asked for."""
        if self.kept is None or self.result is None:
            return self.kept or self.result
        return _joined(self.kept, self.result)

    @property
    def prompted_box(self) -> tuple[float, float, float, float] | None:
        """The box of the prompt, XYXY in pixels and within the picture; None where there is none."""
        box = self.box
        if box is None and self.around is not None and self.points:
            on = [place for place, label in zip(self.points, self.labels, strict=True) if label == POSITIVE]
            columns, rows = [x for x, _ in on], [y for _, y in on]
            x0, y0, x1, y1 = self.around
            right, bottom = (max([edge, *(value + 1 for value in at)]) for edge, at in ((x1, columns), (y1, rows)))
            box = min([x0, *columns]), min([y0, *rows]), right, bottom
        height, width = self.image.size
        return box and (box[0], box[1], min(box[2], width), min(box[3], height))

    @property
    def picture(self) -> NDArray[np.uint8]:
        """h×w×3 uint8 RGB as the page shows it: masks, names and clicks over the picture; h×w is `shown_size`."""
        masks = self.masks
        if masks is not None:
            drawn = np.array(masks.plot(prompts=False))
        else:
            drawn = enlarge_image(self.image.image, enlargement(self.image.image))
        if drawn.shape[:2] != self.shown_size:
            drawn = cv2.resize(drawn, self.shown_size[::-1], interpolation=cv2.INTER_AREA)
        self.draw(drawn)
        return drawn

    def draw(self, picture: NDArray[np.uint8]) -> None:
        """Draw points, the box and a corner that waits, in place, on the picture in any size."""
        scale = picture.shape[1] / self.image.size[1]
        points = [(*point, label) for point, label in zip(self.points, self.labels, strict=True)]
        draw_prompt(picture, points, self.prompted_box, scale)
        if self.corner is not None:
            center = (round(scale * (self.corner[0] + 0.5)), round(scale * (self.corner[1] + 0.5)))
            cv2.drawMarker(picture, center, _CORNER_COLOR, cv2.MARKER_CROSS, 20, 2, cv2.LINE_AA)

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) of the picture on the page: small ones are enlarged, large ones have at most 1280 pixels."""
        height, width = (enlargement(self.image.image) * side for side in self.image.size)
        shrink = min(1.0, SIDE / max(height, width))
        return max(1, round(shrink * height)), max(1, round(shrink * width))

    @property
    def rows(self) -> list[list[str]]:
        """The list beside the picture, a row a mask: its number, its predicted IoU, its names with probabilities."""
        masks = self.masks
        if masks is None:
            return []
        return [
            [str(place), f"{iou:.2f}", ", ".join(f"{name} ({probability:.2f})" for name, probability in names)]
            for place, (iou, names) in enumerate(zip(masks.iou.tolist(), masks.names, strict=True), start=1)
        ]


def start(predictor: Predictor, picture: Picture | None) -> Clicks:
    """Encode a picture.

    Raises:
        FileNotFoundError, ValueError: no picture, or one that cannot be read; or the model takes no prompts.
    """
    if picture is None:
        raise ValueError(_NO_PICTURE)
    return Clicks(image=predictor.encode(picture))


def click(predictor: Predictor, clicks: Clicks | None, x: int, y: int, mode: str, words: str) -> Clicks:
    """Add a click, and segment what all clicks so far ask for.

    Args:
        x, y: pixel of the picture that the page shows.
        mode: a key of `MODES`.
        words: as `possam.demo.typed.read_words`; "" for the classes of the model's training.

    Raises:
        ValueError: no picture, an unknown mode, a place outside the picture, or words that cannot be used.
    """
    if clicks is None:
        raise ValueError(_NO_PICTURE)
    place = place_of_click((x, y), clicks.shown_size, clicks.image.size)
    return add_click(clicks, place, mode, _vocabulary(predictor, words))


def add_click(clicks: Clicks, place: tuple[float, float], mode: str, vocabulary: Vocabulary) -> Clicks:
    """Add a click, and segment what all clicks so far ask for.

    Of a box the first click is a corner and the second the opposite one, in any order; a third starts a new box. A
    click outside the object alone asks for nothing yet.

    Args:
        place: x and y in pixels of the picture.
        mode: a key of `MODES`.
        vocabulary: the names to choose from.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"a click is {mode!r}, but must be one of: {', '.join(MODES)}.")
    label, corner = MODES[mode], clicks.corner
    if label is not None:
        points, labels = (*clicks.points, place), (*clicks.labels, label)
        return _segment(replace(clicks, points=points, labels=labels, corner=None), vocabulary)
    if corner is None:
        return _segment(replace(clicks, box=None, corner=place), vocabulary)
    x0, x1 = sorted((corner[0], place[0]))
    y0, y1 = sorted((corner[1], place[1]))
    pixel = max(1.0, max(clicks.image.size) / SIDE)  # what a click hits
    return _segment(replace(clicks, box=(x0, y0, x1 + pixel, y1 + pixel), corner=None), vocabulary)


def place_of_click(pixel: tuple[int, int], shown_size: tuple[int, ...], size: tuple[int, ...]) -> tuple[float, float]:
    """x and y, in pixels of an image of (height, width) `size`, of a pixel (x, y) of it as shown in `shown_size`.

    Raises:
        ValueError: the pixel is outside.
    """
    (x, y), (height, width) = pixel, shown_size
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"({x}, {y}) is outside the picture of {width}×{height} pixels.")
    return max(0.0, (x + 0.5) * size[1] / width - 0.5), max(0.0, (y + 0.5) * size[0] / height - 0.5)


def keep(clicks: Clicks | None) -> Clicks:
    """Keep the mask that was asked for, and begin with another object.

    Raises:
        ValueError: there is no mask.
    """
    if clicks is None or clicks.result is None:
        raise ValueError("There is no mask to keep: click an object first.")
    return Clicks(image=clicks.image, kept=clicks.masks)


def rename(predictor: Predictor, clicks: Clicks | None, words: str) -> Clicks | None:
    """Name the masks again with other words; the picture is not encoded again. Raises ValueError as `click`."""
    if clicks is None or (masks := clicks.masks) is None:
        return clicks
    vocabulary = _vocabulary(predictor, words)
    return clicks if masks.vocabulary == vocabulary else _segment(clicks, vocabulary)


def clear(clicks: Clicks | None) -> Clicks | None:
    """The picture and its kept masks without clicks; it is not encoded again."""
    return None if clicks is None else Clicks(image=clicks.image, kept=clicks.kept)


def find_everything(
    predictor: Predictor, clicks: Clicks | None, words: str, options: EverythingOptions | None = None
) -> Clicks:
    """Segment everything in the picture, keep that, and forget all else. Raises ValueError as `click`."""
    if clicks is None:
        raise ValueError(_NO_PICTURE)
    return Clicks(image=clicks.image, kept=clicks.image.everything(_vocabulary(predictor, words), options))


def _segment(clicks: Clicks, vocabulary: Vocabulary) -> Clicks:
    """The clicks with their mask, and kept masks, under names of this vocabulary."""
    kept = clicks.kept
    if kept is not None and kept.vocabulary != vocabulary and len(kept):
        kept = clicks.image.prompt(kept.prompts, vocabulary)
    box = clicks.prompted_box
    if box is None and POSITIVE not in clicks.labels:
        return replace(clicks, kept=kept, result=None)
    prompts = parse_prompts(clicks.points or None, clicks.labels or None, box)
    return replace(clicks, kept=kept, result=clicks.image.prompt(prompts, vocabulary))


def _joined(first: PromptedResult, second: PromptedResult) -> PromptedResult:
    """The masks of two results of one image and one vocabulary."""
    if not len(first):
        return second
    arrays = ("masks", "boxes", "iou", "label_ids", "scores", "probabilities")
    joined: dict[str, Any] = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in arrays}
    return replace(second, prompts=Prompts.cat([first.prompts, second.prompts]), **joined)


def _vocabulary(predictor: Predictor, words: str) -> Vocabulary:
    return predictor.check(read_words(words) if words.strip() else predictor.model.train_vocabulary)
