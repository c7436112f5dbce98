"""Pascal VOC 2012's segmentation, with background as a class (21) and without (20)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from possam.data.preparation.image_links import image_plan, read_list
from possam.data.preparation.label_maps import class_table, label_map_plan
from possam.data.preparation.plan import Need, Plan, Task, pair_files
from possam.data.preparation.preparation import FilePreparation

__all__ = ["PASCAL_VOC"]

_ROOT = "VOCdevkit/VOC2012"
_FOLDERS = {"train": "training", "val": "validation"}
_SOURCE = (
    "Download http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar and unpack it in the "
    "datasets' root."
)


def _needs(split: str) -> list[Need]:
    names = ("JPEGImages", "SegmentationClass", f"ImageSets/Segmentation/{split}.txt")
    return [Need(f"{_ROOT}/{name}", _SOURCE) for name in names]


def _plans(root: Path, split: str) -> Sequence[Plan]:
    voc, target, folder = root / _ROOT, root / "pascal_voc_d2", _FOLDERS[split]
    names = read_list(voc / "ImageSets/Segmentation" / f"{split}.txt", _SOURCE)
    listed = [Path(f"{name}.jpg") for name in names]
    images = pair_files(listed, voc / "JPEGImages", ".jpg", _SOURCE)
    maps = pair_files(listed, voc / "SegmentationClass", ".png", _SOURCE)
    tasks = [
        Task(path.stem, (path,), tuple(target / f"annotations_pascal{n}" / folder / path.name for n in (21, 20)))
        for path in maps
    ]
    tables = [
        class_table("pascal_voc_21", unlabeled={255: 255}),
        class_table("pascal_voc_20", unlabeled={0: 255, 255: 255}),
    ]
    return [
        image_plan(images, target / "images" / folder),
        label_map_plan(tasks, tables, "0 (background), 1 … 20 and 255"),
    ]


PASCAL_VOC = FilePreparation(
    name="pascal_voc",
    description="Pascal VOC 2012 → pascal_voc_d2 with 21 classes (background is one) and with 20",
    needs=_needs,
    plans=_plans,
)
