"""Picture of one mask and the explanation of its name."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from possam.models.explanation import Candidate, MaskExplanation
from possam.visualize.colors import RGB, WHITE, class_color, mix
from possam.visualize.fonts import font_for, readable, shortened, text_width
from possam.visualize.legend import FAINT, GAP, INK

__all__ = ["draw_explanation"]

_PICTURE = 480  # side of the square that the image is fitted into
_COLUMN = 260  # width of one list of names
_SIZE = 16
_BAR = 7
_LINE: RGB = (200, 200, 200)
_SURE: RGB = (60, 60, 60)


def draw_explanation(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], explanation: MaskExplanation
) -> NDArray[np.uint8]:
    """Draw one mask of an image with its explanation.

    Left the mask on the image; right the most probable names by the trained classifier (p), by CLIP (q) and by their
    ensemble (r), with the name that was given in bold lines; below λ between the two, and s, v and c (METHOD.md 1.9).

    Args:
        image: H×W×3 uint8 RGB.
        mask: H×W bool.

    Returns:
        a picture, uint8 RGB.
    """
    rows = max(len(explanation.in_vocabulary), 1)
    lists = round(2.2 * _SIZE) + rows * _row_height()
    right = 3 * _COLUMN + 2 * 2 * GAP
    reason = _wrapped(explanation.reason, right)
    height = max(_PICTURE, lists + 8 * _SIZE + len(reason) * round(1.5 * _SIZE))
    head = round(2.4 * _SIZE)
    sheet = Image.new("RGB", (GAP + _PICTURE + 2 * GAP + right + GAP, head + height + GAP), WHITE)
    pen = ImageDraw.Draw(sheet)
    title = f"{explanation.label}  {explanation.score:.2f}"
    title = shortened(title, round(1.3 * _SIZE), sheet.width - 16 * _SIZE)
    pen.text((GAP, GAP // 2), title, fill=INK, font=font_for(title, round(1.3 * _SIZE)))
    note = f"query {explanation.query}"
    pen.text((sheet.width - GAP, GAP), note, fill=FAINT, font=font_for(note, _SIZE), anchor="ra")
    picture = Image.fromarray(_spotlight(image, mask, class_color(explanation.final[0].label_id)))
    sheet.paste(picture, (GAP + (_PICTURE - picture.width) // 2, head))
    left = GAP + _PICTURE + 2 * GAP
    clip = f"CLIP{'' if explanation.clip_sees else ' (sees nothing)'}"
    for place, (heading, letter, names) in enumerate(
        (
            ("trained", "p", explanation.in_vocabulary),
            (clip, "q", explanation.clip),
            (explanation.ensemble, "r", explanation.final),
        )
    ):
        corner = (left + place * (_COLUMN + 2 * GAP), head)
        _draw_names(pen, corner, f"{heading}:  {letter}", names, explanation.final[0].label_id)
    top = head + lists + _SIZE
    _draw_clip_weight(pen, (left, top), right, explanation)
    _draw_numbers(pen, (left, top + 3 * _SIZE), right, explanation)
    for line, text in enumerate(reason):
        below = (left, top + 6 * _SIZE + line * round(1.5 * _SIZE))
        pen.text(below, text, fill=INK, font=font_for(text, _SIZE))
    return np.asarray(sheet)


def _spotlight(image: NDArray[np.uint8], mask: NDArray[np.bool_], color: RGB) -> NDArray[np.uint8]:
    """The image fitted into the panel, its mask in full color within a line, the rest pale."""
    height, width = image.shape[:2]
    scale = _PICTURE / max(height, width)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    fitted = np.array(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
    inside = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    shown = (inside >= 0.5).astype(np.uint8)
    gray = fitted.mean(axis=2, keepdims=True).repeat(3, axis=2)
    pale = (0.35 * gray + 0.65 * 255 * 0.85).astype(np.uint8)
    result = np.where(shown[..., None] > 0, fitted, pale).astype(np.uint8)
    contours, _ = cv2.findContours(shown, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for line, thickness in ((mix(color, (0, 0, 0), 0.6), 4), (color, 2)):
        cv2.polylines(result, contours, True, line, thickness, cv2.LINE_AA)
    return result


def _row_height() -> int:
    return round(1.5 * _SIZE) + _BAR + 4


def _draw_names(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], heading: str, names: Sequence[Candidate], chosen: int
) -> None:
    """A heading and one bar a name, of the length of its probability."""
    left, top = corner
    pen.text((left, top), heading, fill=INK, font=font_for(heading, round(1.1 * _SIZE)))
    for place, candidate in enumerate(names):
        y = top + round(2.2 * _SIZE) + place * _row_height()
        given = candidate.label_id == chosen
        value = f"{candidate.probability:.3f}"
        mark = " (background)" if candidate.background else "" if candidate.seen else " (unseen)"
        room = _COLUMN - text_width(value, _SIZE) - text_width(mark, _SIZE) - _SIZE
        text = shortened(candidate.label, _SIZE, room)
        ink = INK if given else FAINT
        pen.text((left, y), text, fill=ink, font=font_for(text, _SIZE), stroke_width=0.4 if given else 0)
        pen.text((left + text_width(text, _SIZE), y), mark, fill=FAINT, font=font_for(mark, _SIZE))
        pen.text((left + _COLUMN, y), value, fill=ink, font=font_for(value, _SIZE), anchor="ra")
        y += round(1.5 * _SIZE)
        color = class_color(candidate.label_id)
        pen.rectangle((left, y, left + _COLUMN, y + _BAR), fill=(238, 238, 238))
        length = round(_COLUMN * candidate.probability)
        if length:
            pen.rectangle((left, y, left + length, y + _BAR), fill=color if given else mix(color, WHITE, 0.35))
        if given:
            pen.rectangle((left, y, left + _COLUMN, y + _BAR), outline=_SURE)


def _draw_clip_weight(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, explanation: MaskExplanation
) -> None:
    """Draw λ as a point between the trained classifier (0) and CLIP (1)."""
    left, top = corner
    middle = top + _SIZE // 2
    for text, x, anchor in (("trained", left, "lm"), ("CLIP", left + width, "rm")):
        pen.text((x, middle), text, fill=INK, font=font_for(text, _SIZE), anchor=anchor)
    start, end = left + round(4.6 * _SIZE), left + width - round(3.6 * _SIZE)
    pen.line((start, middle, end, middle), fill=_LINE, width=3)
    for tick in range(5):
        x = start + tick * (end - start) // 4
        pen.line((x, middle - 4, x, middle + 4), fill=_LINE, width=1)
    x = start + round(explanation.clip_weight * (end - start))
    pen.ellipse((x - 8, middle - 8, x + 8, middle + 8), fill=_SURE, outline=WHITE)
    text = readable(f"weight of CLIP  λ = {explanation.clip_weight:.2f}")
    half = text_width(text, _SIZE) // 2
    center = min(max(x, left + half), left + width - half)
    pen.text((center, middle + round(0.8 * _SIZE)), text, fill=INK, font=font_for(text, _SIZE), anchor="ma")


def _draw_numbers(pen: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, explanation: MaskExplanation) -> None:
    left, top = corner
    values = [("predicted IoU  s", explanation.iou), ("void  v", explanation.void)]
    if explanation.confidence is not None:
        values.append(("seen (estimate)  c", explanation.confidence))
    for place, (name, value) in enumerate(values):
        x = left + place * (_COLUMN + 2 * GAP)
        text = f"{name} = {value:.2f}"
        pen.text((x, top), text, fill=INK, font=font_for(text, _SIZE))
        y = top + round(1.5 * _SIZE)
        pen.rectangle((x, y, x + _COLUMN, y + _BAR), fill=(238, 238, 238))
        if round(_COLUMN * value):
            pen.rectangle((x, y, x + round(_COLUMN * value), y + _BAR), fill=_SURE)


def _wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels."""
    lines = [""]
    for word in readable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, _SIZE) <= width:
            lines[-1] = longer
        else:
            lines.append(shortened(word, _SIZE, width))
    return lines
