"""Lists of classes beside a picture: color, name, and a note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from possam.visualize.colors import RGB, WHITE, ink_on
from possam.visualize.fonts import font_for, shortened, text_width

__all__ = ["FAINT", "GAP", "INK", "Row", "beside", "draw_legend", "legend_size"]

GAP = 12
INK: RGB = (30, 30, 30)
FAINT: RGB = (105, 105, 105)  # 5.3 : 1 on white
_LEAST_HEIGHT = 240
_LONGEST = 28  # widest that a name may be, in sizes of its letters


@dataclass(frozen=True)
class Row:
    """One line of a legend. `number` is written in the swatch; `filled` draws it full, or else as a frame."""

    color: RGB
    text: str
    note: str = ""
    number: str = ""
    filled: bool = True


def legend_size(height: int) -> int:
    """Size of the letters beside a picture of `height` pixels."""
    return max(14, min(22, height // 26), height // 45)


def draw_legend(rows: Sequence[Row], height: int, size: int = 0) -> Image.Image:
    """Draw rows, in as many columns as `height` asks for, on a white sheet of that height or a little more.

    Args:
        size: of the letters, by default `legend_size` of the height.
    """
    size = size or legend_size(height)
    height = max(height, _LEAST_HEIGHT)
    step = round(1.7 * size)
    per_column = max(1, height // step)
    columns = [rows[i : i + per_column] for i in range(0, len(rows), per_column)]
    swatch = max([size, *(text_width(row.number, size) + size // 2 for row in rows if row.number)])
    parts = [_draw_column(column, swatch, height, size) for column in columns]
    sheet = Image.new("RGB", (max(1, sum(part.width for part in parts)), height), WHITE)
    left = 0
    for part in parts:
        sheet.paste(part, (left, 0))
        left += part.width
    return sheet


def beside(picture: NDArray[np.uint8], legend: Image.Image) -> NDArray[np.uint8]:
    """One sheet, H×W×3 uint8 RGB, with a legend at the right of a picture."""
    height, width = picture.shape[:2]
    sheet = np.full((max(height, legend.height), width + GAP + legend.width, 3), 255, dtype=np.uint8)
    sheet[:height, :width] = picture
    sheet[: legend.height, width + GAP :] = np.asarray(legend)
    return sheet


def _draw_column(rows: Sequence[Row], swatch: int, height: int, size: int) -> Image.Image:
    texts = [shortened(row.text, size, _LONGEST * size) for row in rows]
    text_left = swatch + size // 2
    note_left = text_left + max(text_width(text, size) for text in texts) + size
    width = note_left + max(text_width(row.note, size) for row in rows) + 2 * GAP
    sheet = Image.new("RGB", (width, height), WHITE)
    pen = ImageDraw.Draw(sheet)
    for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
        top = place * round(1.7 * size)
        box = (0, top + 2, swatch, top + 2 + size + size // 4)
        pen.rectangle(box, fill=row.color if row.filled else WHITE, outline=row.color, width=max(3, size // 8))
        if row.number:
            middle = (swatch / 2, (box[1] + box[3]) / 2)
            pen.text(middle, row.number, fill=ink_on(row.color), font=font_for(row.number, size), anchor="mm")
        pen.text((text_left, top), text, fill=INK if row.filled else FAINT, font=font_for(text, size))
        pen.text((note_left, top), row.note, fill=FAINT, font=font_for(row.note, size))
    return sheet
