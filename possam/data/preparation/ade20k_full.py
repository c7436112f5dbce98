"""ADE20K's full release with its 847 most frequent classes: pictures and label maps with short side at most 512.

Equal to the field's script but for these: the images are found by walking the folders, not by the release's
pickled index (unpickling runs what the file says), which lists the very same files; and the maps are compressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from possam.data.preparation.label_maps import IGNORE
from possam.data.preparation.pictures import is_whole, read_pixels, size_of, write_picture
from possam.data.preparation.plan import Need, Plan, Task, check_files, list_files
from possam.data.preparation.preparation import FilePreparation
from possam.vocabulary import Vocabulary

__all__ = ["ADE20K_FULL", "shrunk_size"]

_ROOT = "ADE20K_2021_17_01"
_FOLDERS = {"train": "training", "val": "validation"}
_LONGEST_SHORT_SIDE = 512
# Red is 10 × (id // 256), green id % 256.
_IDS = 26 * 256
_SOURCE = (
    "Register at https://groups.csail.mit.edu/vision/datasets/ADE20K, download the full dataset (release of "
    "2021-01-17) and unpack it in the datasets' root."
)


def _needs(split: str) -> list[Need]:
    return [Need(f"{_ROOT}/images/ADE/{_FOLDERS[split]}", _SOURCE)]


def _plans(root: Path, split: str) -> Sequence[Plan]:
    folder, ade = _FOLDERS[split], root / _ROOT
    images = list_files(ade / "images/ADE" / folder, "**/ADE_*.jpg", _SOURCE)
    maps = check_files([image.with_name(f"{image.stem}_seg.png") for image in images], _SOURCE)
    tasks = []
    for image, segmentation in zip(images, maps, strict=True):
        targets = (
            ade / "images_detectron2" / folder / image.name,
            ade / "annotations_detectron2" / folder / f"{image.stem}.tif",
        )
        tasks.append(Task(image.stem, (image, segmentation), targets))
    table = np.full(_IDS, IGNORE[".tif"], dtype=np.uint16)
    for number, place in Vocabulary.load("ade20k_847").contiguous_id.items():
        table[number] = place
    return [Plan(tasks=tasks, work=partial(_shrink, table), is_whole=_is_whole)]


def shrunk_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) with the shorter side 512 at most and the proportions kept, rounded as the field does."""
    short = _LONGEST_SHORT_SIDE
    if width >= height > short:
        return short, round(width / float(height) * short)
    if height >= width > short:
        return round(height / float(width) * short), short
    return height, width


def _shrink(table: NDArray[np.uint16], task: Task) -> tuple[int, None]:
    image, segmentation = task.sources
    pixels = read_pixels(image, ("RGB", "L"))
    colors = read_pixels(segmentation, ("RGB",))
    if pixels.shape[:2] != colors.shape[:2]:
        raise ValueError(
            f"{segmentation} has the size {colors.shape[:2]} (height, width), but its image has {pixels.shape[:2]}; "
            "unpack the official archive again."
        )
    # Ids that are none of the 847 classes are left out, as the field does.
    classes = table[colors[..., 0].astype(np.int32) // 10 * 256 + colors[..., 1]]
    height, width = shrunk_size(*classes.shape)
    if (height, width) != classes.shape:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        classes = cv2.resize(classes, (width, height), interpolation=cv2.INTER_NEAREST)
    picture_path, map_path = task.targets
    return _write_jpeg(picture_path, pixels) + write_picture(map_path, classes), None


def _write_jpeg(path: Path, pixels: NDArray[Any]) -> int:
    mode = "RGB" if pixels.ndim == 3 else "L"
    # A JPEG does not decode to what was encoded: it is judged by being whole.
    return 0 if is_whole(path, pixels.shape[:2], mode) else write_picture(path, pixels)


def _is_whole(task: Task) -> bool:
    size = shrunk_size(*size_of(task.sources[0]))
    picture, label_map = task.targets
    return is_whole(label_map, size, "I;16") and (is_whole(picture, size, "RGB") or is_whole(picture, size, "L"))


ADE20K_FULL = FilePreparation(
    name="ade20k_full",
    description="ADE20K's full release → 847 classes, short side ≤ 512, in ADE20K_2021_17_01/*_detectron2",
    needs=_needs,
    plans=_plans,
)
