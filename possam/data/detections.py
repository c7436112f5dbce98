"""A detector's boxes from a COCO results file: [{image_id, category_id, bbox: [x, y, width, height], score}, …]."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from possam.data.checks import is_number, require_keys
from possam.utils.files import read_json_list
from possam.utils.messages import few
from possam.vocabulary import Vocabulary

__all__ = ["Detections", "load_detections"]

FORMAT = "COCO results"
_KEYS = ("image_id", "category_id", "bbox", "score")
_ROUNDING = 1.0  # pixels by which a box may leave its image; it is clipped

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Detections:
    """The N boxes that a detector found in an image.

    Attributes:
        boxes: N×4 float32 XYXY in pixels of the image on disk, inside it.
        scores: N float32.
        classes: N int64, contiguous, or None where the boxes are to be named by another than the detector.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor | None = None

    @classmethod
    def none(cls) -> Detections:
        """The detections of an image without any."""
        return cls(boxes=torch.zeros(0, 4), scores=torch.zeros(0), classes=torch.zeros(0, dtype=torch.int64))


def load_detections(
    path: str | Path, *, sizes: Mapping[Any, tuple[int, int]], vocabulary: Vocabulary, left_out: Collection[int] = ()
) -> dict[Any, Detections]:
    """Read a detector's results on a dataset.

    Args:
        path: the JSON.
        sizes: (height, width) in pixels of the dataset's images by id.
        vocabulary: the dataset's classes; their `dataset_id` are the file's category ids.
        left_out: category ids whose detections are left out, since they are no class of the dataset.

    Returns:
        The detections by image id, in the file's order; images without any are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in the format or holds no detection; an image or a category is not the dataset's; a score
            is not a finite number; or a box is no box in its image, for instance because it is XYXY.
    """
    entries = read_json_list(path)
    if not entries:
        raise ValueError(f"{path} holds no detection; export the detector's results again.")
    for position, entry in enumerate(entries):
        _check_entry(entry, f"{path}: [{position}]")
    if foreign := [entry["image_id"] for entry in entries if entry["image_id"] not in sizes]:
        raise ValueError(
            f"{path}: {len(foreign)} of {len(entries)} detections are of images that the dataset does not have: "
            f"image_id {few([repr(one) for one in dict.fromkeys(foreign)])}; its own are like "
            f"{next(iter(sizes), 'none')!r}. Give the results on this dataset."
        )
    contiguous = vocabulary.contiguous_id
    categories = {entry["category_id"] for entry in entries}
    if unknown := sorted(categories - set(contiguous) - set(left_out)):
        raise ValueError(
            f"{path}: category ids {few(unknown)} are not in the vocabulary {vocabulary.name!r}; a results file has "
            f"the ids of the annotation file, here {few(sorted(contiguous))}, not positions."
        )
    _check_boxes(entries, sizes, str(path))
    by_image: dict[Any, list[tuple[list[float], float, int]]] = defaultdict(list)
    kept = 0
    for entry in entries:
        if entry["category_id"] in contiguous and (box := _clip(entry["bbox"], sizes[entry["image_id"]])):
            by_image[entry["image_id"]].append((box, entry["score"], contiguous[entry["category_id"]]))
            kept += 1
    if kept < len(entries):
        logger.warning(
            "%s: %d of %d detections are left out: their box has no area, or their class is not of the dataset.",
            *(path, len(entries) - kept, len(entries)),
        )
    return {
        image_id: Detections(
            boxes=torch.tensor([box for box, _, _ in found]),
            scores=torch.tensor([score for _, score, _ in found], dtype=torch.float32),
            classes=torch.tensor([category for _, _, category in found]),
        )
        for image_id, found in by_image.items()
    }


def _check_entry(entry: Any, where: str) -> None:
    require_keys(entry, _KEYS, where, FORMAT)
    box, score = entry["bbox"], entry["score"]
    if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and min(box[2:]) >= 0):
        raise ValueError(
            f"{where}: bbox must be [x, y, width, height] in pixels, with no negative width or height, but is "
            f"{box!r:.120}."
        )
    if not is_number(score):
        raise ValueError(f"{where}: score must be a finite number, but is {score!r:.40}.")
    for key in ("image_id", "category_id"):
        kinds = (int, str) if key == "image_id" else (int,)
        if isinstance(entry[key], bool) or not isinstance(entry[key], kinds):
            raise ValueError(f"{where}: {key} must be that of the annotation file, but is {entry[key]!r:.80}.")


def _check_boxes(entries: list[dict[str, Any]], sizes: Mapping[Any, tuple[int, int]], source: str) -> None:
    """Refuse boxes that leave their image, as those do that are XYXY or in pixels of a resized image."""
    outside = [
        position for position, entry in enumerate(entries) if not _inside(entry["bbox"], sizes[entry["image_id"]])
    ]
    if not outside:
        return
    corners = all(_inside([x, y, right - x, bottom - y], sizes[entry["image_id"]])
                  for entry in entries for x, y, right, bottom in [entry["bbox"]])  # fmt: skip
    first = entries[outside[0]]
    height, width = sizes[first["image_id"]]
    hint = (
        "All boxes would fit if they were [x0, y0, x1, y1]: write [x0, y0, x1 - x0, y1 - y0]."
        if corners
        else "They must be [x, y, width, height] in pixels of the image on disk, clipped to it."
    )
    raise ValueError(
        f"{source}: {len(outside)} of {len(entries)} boxes leave their image, the first of them [{outside[0]}]: "
        f"{first['bbox']} in image {first['image_id']!r} of {width}×{height} (width×height). {hint}"
    )


def _inside(box: list[float], size: tuple[int, int]) -> bool:
    x, y, width, height = box
    return (
        min(x, y) >= -_ROUNDING
        and min(width, height) >= 0
        and x + width <= size[1] + _ROUNDING
        and y + height <= size[0] + _ROUNDING
    )


def _clip(box: list[float], size: tuple[int, int]) -> list[float]:
    """The part of a box XYWH that is in its image, XYXY; [] where that has no area as float32."""
    x, y, width, height = box
    corners = [max(x, 0), max(y, 0), min(x + width, size[1]), min(y + height, size[0])]
    x0, y0, x1, y1 = torch.tensor(corners, dtype=torch.float32).tolist()
    return [x0, y0, x1, y1] if x0 < x1 and y0 < y1 else []
