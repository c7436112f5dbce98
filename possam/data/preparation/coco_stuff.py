"""COCO-Stuff: the pixel maps of 2017 with contiguous classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from possam.data.preparation.label_maps import class_table, label_map_plan
from possam.data.preparation.plan import Need, Plan, Task, list_files
from possam.data.preparation.preparation import FilePreparation

__all__ = ["COCO_STUFF"]

_FOLDER = "coco/stuffthingmaps"
_SOURCE = (
    "Download http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip "
    "and unpack it in coco/stuffthingmaps (not in coco: its folders are named like those of the images)."
)


def _needs(split: str) -> list[Need]:
    return [Need(f"{_FOLDER}/{split}2017", _SOURCE)]


def _plans(root: Path, split: str) -> Sequence[Plan]:
    folder = root / _FOLDER / f"{split}2017"
    target = root / "coco/stuffthingmaps_detectron2" / f"{split}2017"
    tasks = [Task(path.stem, (path,), (target / path.name,)) for path in list_files(folder, "*.png", _SOURCE)]
    # The maps hold the official ids less one; 11 of the 182 ids are no class.
    table = class_table("coco_stuff", shift=-1, unlabeled={255: 255})
    return [label_map_plan(tasks, [table], "the ids, less one, of COCO-Stuff's 171 classes, and 255")]


COCO_STUFF = FilePreparation(
    name="coco_stuff",
    description="COCO-Stuff's pixel maps → 171 contiguous classes in coco/stuffthingmaps_detectron2",
    needs=_needs,
    plans=_plans,
)
