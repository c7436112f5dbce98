"""Trees that went wrong in a known way: what a problem means, and silent mistakes that no range of values shows.

An explanation looks at one problem and returns what it stems from and what fixes it, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from possam.data.doctor.pictures import Picture, label_values
from possam.data.doctor.problem import ABSENT, Problem
from possam.data.doctor.tree import Sample, Tree

__all__ = ["MISTAKE_CHECKS", "explain"]

Explanation = tuple[str, str] | None
# Fewer maps than these may well have no unlabeled pixel between them.
_ENOUGH_MAPS = 10
_CITYSCAPES_IDS = range(34)
_COCO_STUFF_IDS = range(182)


def explain(tree: Tree, problem: Problem) -> Problem:
    """The problem with its cause and its cure in place of the general ones, where the cause is known."""
    for explanation in EXPLANATIONS:
        found = explanation(tree, problem)
        if found:
            cause, fix = found
            return replace(problem, what=f"{problem.what}; {cause}", fix=fix or problem.fix)
    return problem


def official_ade_maps(tree: Tree, problem: Problem) -> Explanation:
    """ADE20K's own maps have 0 for unlabeled and 1…150 for classes."""
    if tree.spec.vocabulary == "ade20k_150" and problem.kind == "values" and problem.values == {150}:
        return "these are ADE20K's official maps (0 unlabeled, 1…150 classes), not prepared ones", ""
    return None


def official_voc_maps(tree: Tree, problem: Problem) -> Explanation:
    """VOC's own maps have 0 for background and 1…20 for classes."""
    if tree.spec.vocabulary == "pascal_voc_20" and problem.kind == "values" and problem.values == {20}:
        return "these are VOC's official maps (0 background, 1…20 classes), not prepared ones", ""
    return None


def cityscapes_label_ids(tree: Tree, problem: Problem) -> Explanation:
    """labelIds has 34 ids, and of them labelTrainIds keeps 19 under other numbers."""
    if tree.spec.vocabulary != "cityscapes" or problem.kind != "values":
        return None
    if all(value in _CITYSCAPES_IDS for value in problem.values):
        return "these are Cityscapes' labelIds (0…33) under the name of labelTrainIds (0…18, 255)", ""
    return None


def raw_stuff_maps(tree: Tree, problem: Problem) -> Explanation:
    """COCO-Stuff's own maps have gaps, up to 181."""
    if tree.spec.vocabulary != "coco_stuff" or problem.kind != "values":
        return None
    if all(value in _COCO_STUFF_IDS for value in problem.values):
        return "these are COCO-Stuff's official maps (ids up to 181), not prepared ones (0…170)", ""
    return None


def shifted_categories(tree: Tree, problem: Problem) -> Explanation:
    """All ids one too high: the ids of a script that counts from 1."""
    ids = tree.vocabulary.contiguous_id
    if problem.kind not in ("categories", "category ids") or 0 not in ids or not problem.values:
        return None
    if problem.values == {max(ids) + 1}:
        return f"another script made this file, with ids from 1 to {max(ids) + 1}; all classes are off by one", ""
    return None


def mapillary_two(tree: Tree, problem: Problem) -> Explanation:
    """Version 2.0 has 124 classes, and its archive holds both versions in folders of their own."""
    if tree.spec.vocabulary != "mapillary_vistas":
        return None
    folder = tree.image_folder.parent
    if problem.kind in (ABSENT, "missing") and (folder / "v1.2").is_dir():
        place = folder / "v1.2"
        return (
            f"this is the archive of version 2.0, which keeps version 1.2 in {place}",
            f"Move the folders in {place} (labels, panoptic, instances) up into {folder}.",
        )
    if problem.kind in ("categories", "category ids") and any(value in range(66, 126) for value in problem.values):
        return "these are version 2.0's 124 classes; version 1.2 with its 65 is expected", ""
    if problem.kind == "values" and all(value in range(66, 124) for value in problem.values):
        return "these are version 2.0's 124 classes; version 1.2 with its 65 is expected", ""
    return None


def coco_2014(tree: Tree, problem: Problem) -> Explanation:
    """The images of 2014 are the same in other folders, split otherwise, and named COCO_val2014_….jpg."""
    if not tree.spec.image_folder.startswith("coco") or problem.kind not in (ABSENT, "missing", "strangers"):
        return None
    folder = tree.image_folder
    old = folder.with_name(folder.name.replace("2017", "2014"))
    named = next((name for name in tree.images if name.startswith("COCO_")), "")
    if named:
        return f"the folder holds images of COCO 2014, such as {named}; those of 2017 are expected", tree.fix_all
    if problem.where.startswith(str(folder)) and old != folder and old.is_dir():
        return f"there is {old}, but the images of 2017 are expected", tree.fix_all
    return None


def unprepared_cityscapes(tree: Tree, problem: Problem) -> Explanation:
    """gtFine as it is downloaded has labelIds only."""
    if tree.spec.vocabulary != "cityscapes" or problem.kind != "missing" or not tree.spec.semantic:
        return None
    folder = tree.root / tree.spec.semantic.folder
    if not tree.label_maps and any(folder.glob("*/*_labelIds.png")) and problem.where.startswith(str(folder)):
        return "there are labelIds only, from which labelTrainIds are made", ""
    return None


def half_unpacked(tree: Tree, problem: Problem) -> Explanation:
    """Many files missing at once, or too few of them, are no accident of a single file."""
    if problem.kind == "missing" and problem.count > max(10, len(tree.wanted) // 100):
        return "so many at once: an archive that was unpacked in part, or a preparation that was stopped", ""
    if problem.kind == "count" and problem.values and max(problem.values) < tree.spec.images:
        return "an archive that was unpacked in part, or a preparation that was stopped", ""
    return None


EXPLANATIONS: tuple[Callable[[Tree, Problem], Explanation], ...] = (
    official_ade_maps,
    official_voc_maps,
    cityscapes_label_ids,
    raw_stuff_maps,
    shifted_categories,
    mapillary_two,
    coco_2014,
    unprepared_cityscapes,
    half_unpacked,
)


# ---------------------------------------------------------------- mistakes that stay within the allowed values


def check_against_official_ade(tree: Tree, samples: Sequence[Sample]) -> Iterator[Problem]:
    """A prepared ADE20K map is the official one with 0 → 255 and v → v − 1."""
    if tree.spec.vocabulary != "ade20k_150":
        return
    for sample in samples:
        official = _official_ade_map(sample.label_map) if sample.label_map else None
        if sample.label_map is None or official is None:
            continue
        before, after = _map(official), _map(sample.label_map)
        if before is None or after is None or before.shape != after.shape:
            continue
        what = _ade_mistake(before, after)
        if what:
            yield Problem(
                kind="conversion",
                where=str(sample.label_map),
                what=what,
                fix=tree.fix_wrong,
                details=(sample.label_map.name,),
            )


def _official_ade_map(prepared: Path) -> Path | None:
    parts = [part if part != "annotations_detectron2" else "annotations" for part in prepared.parts]
    official = Path(*parts)
    return official if official != prepared and official.is_file() else None


def _ade_mistake(before: NDArray[np.int64], after: NDArray[np.int64]) -> str:
    if (after == np.where(before == 0, 255, before - 1)).all():
        return ""
    if (after == before).all():
        return "label maps are copies of ADE20K's official ones (0 unlabeled, 1…150 classes), not prepared ones"
    unlabeled = np.unique(after[before == 0])
    if unlabeled.tolist() == [0] and (after[before > 0] == before[before > 0] - 1).all():
        return "label maps have 0 (wall) where the official ones are unlabeled, 255 is expected there"
    return "label maps differ from the official ones by more than 0 → 255 and v → v − 1"


def check_unlabeled(tree: Tree, samples: Sequence[Sample]) -> Iterator[Problem]:
    """Some pixel of many maps is unlabeled; none at all means that the ignored value is another one."""
    if tree.spec.semantic is None:
        return
    maps = [sample.label_map for sample in samples if sample.label_map]
    ignored = tree.spec.semantic.ignore_label
    counts = [label_values(Picture(path, "label map", "")) for path in maps]
    readable = [count for count in counts if count]
    if len(readable) < _ENOUGH_MAPS or any(ignored in count for count in readable):
        return
    share = sum(0 in count for count in readable)
    what = (
        f"none of {len(readable)} label maps has a pixel of {ignored} (ignored), and {share} of them have 0: perhaps 0 "
        f"stands for unlabeled here, and all classes are off by one"
    )
    yield Problem(
        kind="conversion", where=str(tree.root / tree.spec.semantic.folder), what=what, fix=tree.fix_wrong
    )


MISTAKE_CHECKS: tuple[Callable[[Tree, Sequence[Sample]], Iterator[Problem]], ...] = (
    check_against_official_ade,
    check_unlabeled,
)


def _map(path: Path) -> NDArray[np.int64] | None:
    pixels = Picture(path, "label map", "").pixels
    return pixels.astype(np.int64) if pixels is not None and pixels.ndim == 2 else None
