"""ADE20K-150: panoptic annotations, made of its label maps and its instance maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.data.id_maps import id_to_rgb
from possam.data.preparation.ade20k_instance import INSTANCES, instance_tasks, read_instances, thing_classes
from possam.data.preparation.ade20k_semantic import FOLDERS, ROOT, SCENES, VALUES
from possam.data.preparation.label_maps import class_table, read_label_map
from possam.data.preparation.pictures import apply_table, is_whole, size_of, write_picture
from possam.data.preparation.plan import JsonFile, Need, Plan, Task, pair_files
from possam.data.preparation.preparation import FilePreparation
from possam.data.preparation.segments import segment_info
from possam.vocabulary import Vocabulary

__all__ = ["ADE20K_PANOPTIC"]


def _needs(split: str) -> list[Need]:
    folder = FOLDERS[split]
    return [
        Need(f"{ROOT}/images/{folder}", SCENES),
        Need(f"{ROOT}/annotations/{folder}", SCENES),
        Need(f"{ROOT}/annotations_instance/{folder}", INSTANCES),
    ]


def _plans(root: Path, split: str) -> Sequence[Plan]:
    triples = instance_tasks(root, split)
    maps = pair_files([image for _, image, _ in triples], root / ROOT / "annotations" / FOLDERS[split], ".png", SCENES)
    folder = root / ROOT / f"ade20k_panoptic_{split}"
    tasks = [
        Task(name, (semantic, instances), (folder / f"{name}.png",))
        for (name, _, instances), semantic in zip(triples, maps, strict=True)
    ]
    table = class_table("ade20k_150", shift=1, unlabeled={0: 255})
    json = JsonFile(path=folder.with_suffix(".json"), content=_content, values=_values)
    return [Plan(tasks=tasks, work=partial(_combine, table), is_whole=_is_whole, json=json)]


def _combine(table: NDArray[np.int32], task: Task) -> tuple[int, dict[str, Any]]:
    """Stuff of the label map, then the instances over it; things of the label map alone are void.

    The instances reach over the stuff, and as in the files that the field evaluates on, `area` and `bbox` of a
    stuff segment are those of the label map, with the pixels that instances cover. The ids are this project's:
    class + 1, and for an instance + 256 · its serial number.
    """
    semantic, instances = task.sources
    classes = apply_table(read_label_map(semantic), table, semantic, VALUES)
    found = read_instances(instances)
    if found and found[0][2].shape != classes.shape:
        raise ValueError(
            f"{instances} has the size {found[0][2].shape} (height, width), but {semantic} has {classes.shape}; unpack "
            "both archives again."
        )
    ids, segments = np.zeros(classes.shape, dtype=np.int32), []
    for category in np.unique(classes[classes != 255]).tolist():
        if category not in thing_classes():
            mask = classes == category
            ids[mask] = category + 1
            segments.append(segment_info(category + 1, category, mask))
    for serial, category, mask in found:
        ids[mask] = category + 1 + 256 * serial
        segments.append(segment_info(category + 1 + 256 * serial, category, mask))
    height, width = classes.shape
    image = {"id": task.key, "file_name": f"{task.key}.jpg", "width": width, "height": height}
    annotation = {"image_id": task.key, "file_name": f"{task.key}.png", "segments_info": segments}
    return write_picture(task.targets[0], id_to_rgb(ids)), {"image": image, "annotation": annotation}


def _is_whole(task: Task) -> bool:
    return is_whole(task.targets[0], size_of(task.sources[0]), "RGB")


def _content(values: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "images": [value["image"] for value in values],
        "annotations": [value["annotation"] for value in values],
        "categories": [
            {"id": place, "name": category.dataset_name, "isthing": int(category.isthing)}
            for place, category in enumerate(Vocabulary.load("ade20k_150").categories)
        ],
    }


def _values(content: dict[str, Any]) -> dict[str, Any]:
    images = {image["id"]: image for image in content["images"]}
    return {
        annotation["image_id"]: {"image": images[annotation["image_id"]], "annotation": annotation}
        for annotation in content["annotations"]
    }


ADE20K_PANOPTIC = FilePreparation(
    name="ade20k_panoptic",
    description="ADE20K's label and instance maps → ADEChallengeData2016/ade20k_panoptic_{train,val} and .json",
    needs=_needs,
    plans=_plans,
)
