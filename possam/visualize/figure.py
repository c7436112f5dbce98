"""A figure: image | ground truth | prediction | legend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from possam.utils.files import write_atomically
from possam.visualize.colors import WHITE, class_color
from possam.visualize.fonts import font_for, shortened
from possam.visualize.legend import GAP, INK, Row, draw_legend, legend_size
from possam.visualize.overlay import Segmented, draw_panoptic
from possam.visualize.sizes import enlarge_image, enlargement

__all__ = ["legend_rows", "save_picture", "side_by_side"]


def side_by_side(
    image: NDArray[np.uint8],
    ground_truth: Segmented | None,
    prediction: Segmented,
    names: Sequence[str],
    *,
    seen: Sequence[bool] | None = None,
    title: str = "",
) -> NDArray[np.uint8]:
    """A figure: image | ground truth | prediction | legend.

    The legend has each class with its color, its number of segments and the scores of predictions; classes
    of the ground truth that were not predicted are listed last.

    Args:
        image: H×W×3 uint8 RGB.
        ground_truth: id map and segments_info, or None for a figure without it.
        prediction: id map and segments_info, whose dicts may have a ``score`` in [0, 1].
        names: display name of each class.
        seen: whether training showed each class (`Vocabulary.seen`); unseen ones are marked. None: no marks.
        title: written above everything.

    Returns:
        a picture, uint8 RGB.

    Raises:
        ValueError: shapes do not fit, or a class has no name.
    """
    panels = {"image": enlarge_image(image, enlargement(image))}
    if ground_truth is not None:
        panels["ground truth"] = draw_panoptic(image, *ground_truth, names)
    panels["prediction"] = draw_panoptic(image, *prediction, names)
    height, width = panels["image"].shape[:2]
    size = legend_size(height)
    top = GAP + round(1.6 * size) * (2 if title else 1)
    legend = draw_legend(legend_rows(ground_truth, prediction, names, seen), height, size)
    total = (width + GAP) * len(panels) + legend.width + 2 * GAP
    sheet = Image.new("RGB", (total, top + max(height, legend.height) + GAP), WHITE)
    pen = ImageDraw.Draw(sheet)
    if title:
        head = round(1.15 * size)
        title = shortened(title, head, total - 2 * GAP)
        pen.text((GAP, GAP // 2), title, fill=INK, font=font_for(title, head))
    for place, (heading, panel) in enumerate(panels.items()):
        left = GAP + (width + GAP) * place
        heading = shortened(heading, size, width)
        pen.text((left, top - round(1.5 * size)), heading, fill=INK, font=font_for(heading, size))
        sheet.paste(Image.fromarray(panel), (left, top))
    sheet.paste(legend, (GAP + (width + GAP) * len(panels), top))
    return np.asarray(sheet)


def legend_rows(
    ground_truth: Segmented | None,
    prediction: Segmented,
    names: Sequence[str],
    seen: Sequence[bool] | None,
) -> list[Row]:
    """One row a class that was predicted, best score first, and then one a class that was not found."""

    def row(category: int, count: int, note: str, found: bool) -> Row:
        marks = (f" x{count}" if count > 1 else "") + ("" if seen is None or seen[category] else " (unseen)")
        return Row(color=class_color(category), text=names[category] + marks, note=note, filled=found)

    scores: dict[int, list[float]] = {}
    for info in prediction[1]:
        scores.setdefault(info["category_id"], []).append(float(info.get("score", np.nan)))
    ordered = sorted(scores, key=lambda c: -np.nan_to_num(max(scores[c])))
    rows = [row(c, len(scores[c]), _range(scores[c]), True) for c in ordered]
    annotated = [info["category_id"] for info in (ground_truth[1] if ground_truth is not None else ())]
    missed = [c for c in dict.fromkeys(annotated) if c not in scores]
    return rows + [row(c, annotated.count(c), "not found", False) for c in missed]


def _range(scores: Sequence[float]) -> str:
    if np.isnan(scores).any():
        return ""
    low, high = f"{min(scores):.2f}", f"{max(scores):.2f}"
    return high if low == high else f"{low} to {high}"


def save_picture(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write an H×W×3 uint8 RGB picture as PNG or JPEG, by the suffix of `path`; all of it or nothing.

    Raises:
        ValueError: another suffix.
    """
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise ValueError(f"pictures are saved as {', '.join(formats)}, but got {str(path)!r}.")
    content = Image.fromarray(picture)
    write_atomically(path, lambda file: content.save(file, format=formats[suffix], quality=92))
