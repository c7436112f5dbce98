"""ADE20K-150: label maps with contiguous classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from possam.data.preparation.label_maps import class_table, label_map_plan
from possam.data.preparation.plan import Need, Plan, Task, list_files
from possam.data.preparation.preparation import FilePreparation

__all__ = ["ADE20K_SEMANTIC", "FOLDERS", "ROOT", "SCENES", "VALUES"]

ROOT = "ADEChallengeData2016"
FOLDERS = {"train": "training", "val": "validation"}
SCENES = (
    "Download http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip and unpack it in the datasets' "
    "root."
)
VALUES = "1 … 150, and 0 for all else,"


def _needs(split: str) -> list[Need]:
    return [Need(f"{ROOT}/annotations/{FOLDERS[split]}", SCENES)]


def _plans(root: Path, split: str) -> Sequence[Plan]:
    folder = root / ROOT / "annotations" / FOLDERS[split]
    target = root / ROOT / "annotations_detectron2" / FOLDERS[split]
    tasks = [Task(path.stem, (path,), (target / path.name,)) for path in list_files(folder, "*.png", SCENES)]
    return [label_map_plan(tasks, [class_table("ade20k_150", shift=1, unlabeled={0: 255})], VALUES)]


ADE20K_SEMANTIC = FilePreparation(
    name="ade20k_semantic",
    description="ADE20K's label maps → 150 contiguous classes in ADEChallengeData2016/annotations_detectron2",
    needs=_needs,
    plans=_plans,
)
