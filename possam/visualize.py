"""Pictures of panoptic segmentations: colours by class name, outlines, names where they can be read.

Colours are RGB. Images are H×W×3 uint8 in [0, 255]; a segmentation is an H×W map of segment ids (0: none)
with its ``segments_info``, as models and datasets of this project give them.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from possam.data.id_maps import index_ids
from possam.files import write_atomically

__all__ = ["class_color", "draw_panoptic", "save_picture", "side_by_side"]

RGB = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels
Segmentation = tuple[NDArray[np.integer] | Tensor, Sequence[Mapping[str, Any]]]

# 26 colours that are far apart for the eye (by distance in CIE Lab, of middle lightness and saturation).
_PALETTE: tuple[RGB, ...] = (
    (240, 45, 30), (0, 240, 120), (0, 105, 255), (255, 210, 0), (45, 225, 255), (255, 30, 180), (75, 105, 30),
    (225, 180, 255), (225, 150, 105), (150, 60, 105), (210, 225, 135), (0, 105, 180), (0, 180, 135), (165, 225, 30),
    (150, 15, 180), (255, 75, 120), (255, 135, 0), (165, 135, 0), (30, 150, 0), (165, 60, 45), (255, 135, 255),
    (120, 75, 165), (255, 150, 180), (0, 180, 255), (135, 165, 30), (135, 90, 30),
)  # fmt: skip
# Any salt would do; with this one, names that often meet (the miniature world's stuff, COCO's sky, tree, grass,
# person …) get colours that are easy to tell apart.
_SALT = "20869"
_ENOUGH_PIXELS = 480  # pictures whose longer side is shorter are enlarged before anything is written on them
_MAX_ENLARGEMENT = 4
_GAP = 12
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")
_INK, _FAINT, _PAPER = (30, 30, 30), (120, 120, 120), (255, 255, 255)


@dataclass(frozen=True)
class _Label:
    text: str
    mask: NDArray[np.bool_]


def class_color(name: str) -> RGB:
    """The colour of a class: the same for the same name (case and spacing aside) in every picture."""
    digest = hashlib.sha256((_SALT + " ".join(name.casefold().split())).encode()).digest()
    return _PALETTE[int.from_bytes(digest[:4], "big") % len(_PALETTE)]


def draw_panoptic(
    image: NDArray[np.uint8],
    id_map: NDArray[np.integer] | Tensor,
    segments_info: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    opacity: float = 0.5,
    labels: bool = True,
) -> NDArray[np.uint8]:
    """Lay segments over an image: tinted with the colour of their class, outlined, and named.

    Args:
        image: H×W×3 uint8 RGB.
        id_map: H×W segment ids; 0, and ids that are not listed, stay as they are.
        segments_info: dicts with ``id`` and a contiguous ``category_id``.
        names: display name of each class.
        opacity: of the tint, in [0, 1].
        labels: whether to write names.
    Returns:
        sH×sW×3 uint8 RGB; small images are enlarged by a whole number s ≤ 4, so that names can be read.
    Raises:
        ValueError: shapes do not fit, a class has no name, or the opacity is out of range.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in [0, 1], but got {opacity}.")
    _check(image, id_map, segments_info, names)
    scale = _enlargement(image)
    index = _enlarge_index(index_ids(np.asarray(id_map), [info["id"] for info in segments_info]), scale)
    colors = [class_color(names[info["category_id"]]) for info in segments_info]
    result = _enlarge(image, scale)
    inside = index > 0
    tint = np.array([(0, 0, 0), *colors], dtype=np.float32)[index.clip(0)]
    result[inside] = ((1 - opacity) * result[inside] + opacity * tint[inside]).round().astype(np.uint8)
    masks = [index == i + 1 for i in range(len(segments_info))]
    for mask, color in zip(masks, colors, strict=True):
        _outline(result, mask, color)
    if not labels:
        return result
    texts = [names[i["category_id"]] + (" (crowd)" if i.get("iscrowd") else "") for i in segments_info]
    named = [_Label(text, mask) for text, mask in zip(texts, masks, strict=True) if mask.any()]
    return _write_names(result, named)


def side_by_side(
    image: NDArray[np.uint8],
    ground_truth: Segmentation | None,
    prediction: Segmentation,
    names: Sequence[str],
    *,
    seen: Sequence[bool] | None = None,
    title: str = "",
) -> NDArray[np.uint8]:
    """A figure: image | ground truth | prediction | legend.

    The legend has each class with its colour, its number of segments and the scores of predictions; classes
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
    panels = {"image": _enlarge(image, _enlargement(image))}
    if ground_truth is not None:
        panels["ground truth"] = draw_panoptic(image, *ground_truth, names)
    panels["prediction"] = draw_panoptic(image, *prediction, names)
    height, width = panels["image"].shape[:2]
    size = max(14, min(22, height // 26))
    top = _GAP + round(1.6 * size) * (2 if title else 1)
    legend = _legend(_legend_rows(ground_truth, prediction, names, seen), height, size)
    total = (width + _GAP) * len(panels) + legend.width + 2 * _GAP
    sheet = Image.new("RGB", (total, top + height + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((_GAP, _GAP // 2), title, fill=_INK, font=_font(round(1.15 * size), title))
    for place, (heading, panel) in enumerate(panels.items()):
        left = _GAP + (width + _GAP) * place
        pen.text((left, top - round(1.5 * size)), heading, fill=_INK, font=_font(size, heading))
        sheet.paste(Image.fromarray(panel), (left, top))
    sheet.paste(legend, (_GAP + (width + _GAP) * len(panels), top))
    return np.asarray(sheet)


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


# -------------------------------------------------------------------------------------------------
# preparation


def _check(
    image: NDArray[np.uint8],
    id_map: NDArray[np.integer] | Tensor,
    segments_info: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be H×W×3 uint8 RGB, but is {image.dtype} of shape {image.shape}.")
    if tuple(id_map.shape) != image.shape[:2]:
        raise ValueError(
            f"segmentation has shape {tuple(id_map.shape)}, but the image is {image.shape[:2]} (height, width)."
        )
    unnamed = sorted({i["category_id"] for i in segments_info if not 0 <= i["category_id"] < len(names)})
    if unnamed:
        raise ValueError(f"classes {unnamed} have no name; {len(names)} names were given.")


def _enlargement(image: NDArray[np.uint8]) -> int:
    return int(np.clip(-(-_ENOUGH_PIXELS // max(image.shape[:2])), 1, _MAX_ENLARGEMENT))


def _enlarge(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    resized = cv2.resize(image, (scale * width, scale * height), interpolation=cv2.INTER_CUBIC)
    return np.array(resized, dtype=np.uint8)


def _enlarge_index(index: NDArray[np.int64], scale: int) -> NDArray[np.int64]:
    """Enlarge a map of segments with smooth borders: each pixel goes to the segment that is most around it."""
    if scale == 1:
        return index
    size = (scale * index.shape[1], scale * index.shape[0])
    result = np.zeros((size[1], size[0]), dtype=np.int64)
    strongest = np.zeros(result.shape, dtype=np.float32)
    for value in np.unique(index):
        share = cv2.resize((index == value).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        better = share > strongest
        result[better], strongest[better] = value, share[better]
    return result


def _outline(picture: NDArray[np.uint8], mask: NDArray[np.bool_], color: RGB) -> None:
    """Draw a segment's border, in place, in a light shade of its colour."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(max(mask.shape) / 800))
    light = tuple(round(0.35 * channel + 0.65 * 255) for channel in color)
    cv2.drawContours(picture, contours, -1, light, width, cv2.LINE_AA)


# -------------------------------------------------------------------------------------------------------
# names


@lru_cache(maxsize=32)
def _load_font(size: int, ascii_only: bool) -> Any:
    for name in () if ascii_only else _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _font(size: int, text: str) -> Any:
    """Pillow's own font, so that pictures are the same on any machine. It has little but ASCII, so other
    names are
    written with one of the system's fonts, where there is one."""
    return _load_font(size, text.isascii())


def _write_names(picture: NDArray[np.uint8], labels: Sequence[_Label]) -> NDArray[np.uint8]:
    """Write each name into its segment, away from other names where there is room."""
    sheet = Image.fromarray(picture)
    pen = ImageDraw.Draw(sheet)
    largest = int(np.clip(min(sheet.size) / 22, 13, 26))
    taken: list[Box] = []
    # Small segments first: they have one place for their name, large ones have many.
    for label in sorted(labels, key=lambda item: int(item.mask.sum())):
        size = _fitting_size(label, largest)
        stroke = max(1, size // 8)
        font = _font(size, label.text)
        left, top, right, bottom = pen.textbbox((0, 0), label.text, font=font, stroke_width=stroke)
        extent = (int(right - left), int(bottom - top))
        boxes = [_box_at(place, extent, sheet.size) for place in _places(label.mask)]
        crowding = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = int(np.argmin(crowding))
        # A name that would hide half of others, for a segment too small to hold it, says less than it hides.
        if crowding[best] > 0.5 * extent[0] * extent[1] and label.mask.sum() < 2 * extent[0] * extent[1]:
            continue
        taken.append(boxes[best])
        place = (boxes[best][0] - left, boxes[best][1] - top)
        pen.text(place, label.text, font=font, fill=_PAPER, stroke_width=stroke, stroke_fill=(0, 0, 0))
    return np.array(sheet)


def _fitting_size(label: _Label, largest: int) -> int:
    columns = np.flatnonzero(label.mask.any(axis=0))
    room = columns[-1] - columns[0] + 1
    smallest = min(12, largest)
    needed = _font(largest, label.text).getlength(label.text)
    return int(np.clip(largest * room / needed, smallest, largest))


def _places(mask: NDArray[np.bool_], count: int = 6) -> Iterator[tuple[int, int]]:
    """Points (x, y) deep inside a segment, deepest first: peaks of the distance to its border."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1].copy()
    for _ in range(count):
        _, deepest, _, (x, y) = cv2.minMaxLoc(depth)
        if deepest <= 0:
            return
        yield x, y
        radius = round(max(deepest, 14))
        cv2.rectangle(depth, (x - 2 * radius, y - radius), (x + 2 * radius, y + radius), 0.0, -1)


def _box_at(centre: tuple[int, int], extent: tuple[int, int], size: tuple[int, int]) -> Box:
    left, top = (
        int(np.clip(middle - length // 2, 0, max(0, limit - length)))
        for middle, length, limit in zip(centre, extent, size, strict=True)
    )
    return left, top, left + extent[0], top + extent[1]


def _overlap(a: Box, b: Box) -> int:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height)


# ------------------------------------------------------------------------------------------------------
# legend


@dataclass(frozen=True)
class _Row:
    color: RGB
    text: str
    note: str
    found: bool


def _legend_rows(
    ground_truth: Segmentation | None,
    prediction: Segmentation,
    names: Sequence[str],
    seen: Sequence[bool] | None,
) -> list[_Row]:
    def row(category: int, count: int, note: str, found: bool) -> _Row:
        marks = (f" x{count}" if count > 1 else "") + ("" if seen is None or seen[category] else " (unseen)")
        return _Row(class_color(names[category]), names[category] + marks, note, found)

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


def _legend(rows: Sequence[_Row], height: int, size: int) -> Image.Image:
    """A list of colours, names and notes, in as many columns as the height needs."""
    step = round(1.7 * size)
    per_column = max(1, height // step)
    columns = [rows[i : i + per_column] for i in range(0, len(rows), per_column)]
    text_widths = [int(max(_font(size, r.text).getlength(r.text) for r in column)) for column in columns]
    note_widths = [int(max(_font(size, r.note).getlength(r.note) for r in column)) for column in columns]
    widths = [
        round(1.5 * size) + t + size + n + 2 * _GAP for t, n in zip(text_widths, note_widths, strict=True)
    ]
    sheet = Image.new("RGB", (max(1, sum(widths)), height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    left = 0
    for column, width, text_width in zip(columns, widths, text_widths, strict=True):
        for place, row in enumerate(column):
            top = place * step
            swatch = (left, top + 2, left + size, top + 2 + size)
            pen.rectangle(swatch, fill=row.color if row.found else _PAPER, outline=row.color, width=3)
            x = left + round(1.5 * size)
            pen.text((x, top), row.text, fill=_INK if row.found else _FAINT, font=_font(size, row.text))
            pen.text((x + text_width + size, top), row.note, fill=_FAINT, font=_font(size, row.note))
        left += width
    return sheet
