"""Pascal Context: label maps of its 59 frequent classes and of all 459, made of the official .mat files.

The 59 are classes of the 459, so one file serves both; the Detail API, by which the field makes the 59, is not
needed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from possam.data.preparation.image_links import image_plan, read_list
from possam.data.preparation.label_maps import IGNORE, class_table, label_map_plan
from possam.data.preparation.plan import Need, Plan, Task, pair_files
from possam.data.preparation.preparation import FilePreparation
from possam.utils.files import read_json

__all__ = ["PASCAL_CONTEXT_459", "PASCAL_CONTEXT_59"]

_ROOT = "VOCdevkit/VOC2010"
_FOLDERS = {"train": "training", "val": "validation"}
_CLASSES = 459
# What SciPy answers damaged files with.
_MAT_ERRORS = (MatReadError, ValueError, TypeError, LookupError, OSError, EOFError, NotImplementedError, zlib.error)
_SUFFIX = {59: ".png", 459: ".tif"}
_IMAGES = (
    "Download http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar and unpack it in the "
    "datasets' root."
)
_MAPS = (
    "Download https://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz (also at "
    "https://roozbehm.info/pascal-context/trainval.tar.gz) and unpack it in VOCdevkit/VOC2010."
)


def _needs(split: str) -> list[Need]:
    return [
        Need(f"{_ROOT}/JPEGImages", _IMAGES),
        Need(f"{_ROOT}/ImageSets/Main/{split}.txt", _IMAGES),
        Need(f"{_ROOT}/trainval", _MAPS),
    ]


def _names(voc: Path, split: str) -> list[str]:
    """The split: VOC 2010's own list, or where it is there that of trainval_merged.json, as the field has it.

    The JSON leaves out 2 of the 4,998 training images and 1 of the 5,105 validation images.
    """
    merged = voc / "trainval_merged.json"
    if not merged.is_file():
        return read_list(voc / "ImageSets/Main" / f"{split}.txt", _IMAGES)
    try:
        return [Path(image["file_name"]).stem for image in read_json(merged)["images"] if image["phase"] == split]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{merged} is not the file of the Detail API (no {error}); remove it, and VOC 2010's own lists are used."
        ) from error


def _plans(classes: int, root: Path, split: str) -> Sequence[Plan]:
    voc, target, folder, suffix = root / _ROOT, root / "pascal_ctx_d2", _FOLDERS[split], _SUFFIX[classes]
    listed = [Path(f"{name}.jpg") for name in _names(voc, split)]
    images = pair_files(listed, voc / "JPEGImages", ".jpg", _IMAGES)
    maps = pair_files(listed, voc / "trainval", ".mat", _MAPS)
    tasks = [
        Task(path.stem, (path, image), (target / f"annotations_ctx{classes}" / folder / f"{path.stem}{suffix}",))
        for path, image in zip(maps, images, strict=True)
    ]
    table = class_table(f"pascal_context_{classes}", unlabeled=dict.fromkeys(range(_CLASSES + 1), IGNORE[suffix]))
    plan = label_map_plan(tasks, [table], "1 … 459, and 0 for no class,", read=_read_map)
    return [image_plan(images, target / "images" / folder), plan]


def _read_map(path: Path) -> NDArray[Any]:
    """H×W uint16: the file's LabelMap."""
    try:
        label_map = loadmat(path, variable_names=["LabelMap"])["LabelMap"]
    except _MAT_ERRORS as error:
        raise ValueError(f"{path} holds no LabelMap that can be read ({error}). {_MAPS}") from error
    if label_map.ndim != 2 or not np.issubdtype(label_map.dtype, np.integer):
        raise ValueError(f"{path}: LabelMap is {label_map.dtype} of shape {label_map.shape}, not a map. {_MAPS}")
    return label_map


def _preparation(classes: int, what: str) -> FilePreparation:
    return FilePreparation(
        name=f"pascal_context_{classes}",
        description=f"Pascal Context → {what} in pascal_ctx_d2/annotations_ctx{classes}, and the images",
        needs=_needs,
        plans=partial(_plans, classes),
    )


PASCAL_CONTEXT_59 = _preparation(59, "59 classes")
PASCAL_CONTEXT_459 = _preparation(459, "all 459 classes")
