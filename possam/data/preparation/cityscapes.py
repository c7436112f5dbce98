"""Cityscapes' fine annotation: label maps of the 19 train ids and panoptic files, as cityscapesScripts has them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.data.id_maps import id_to_rgb
from possam.data.preparation.label_maps import IGNORE, class_table, read_label_map
from possam.data.preparation.pictures import apply_table, is_whole, read_pixels, size_of, write_picture
from possam.data.preparation.plan import JsonFile, Need, Plan, Task, check_files, list_files
from possam.data.preparation.preparation import FilePreparation
from possam.data.preparation.segments import segment_info
from possam.vocabulary import Vocabulary

__all__ = ["CITYSCAPES"]

_ROOT = "cityscapes/gtFine"
_LARGEST_ID = 33
_END = "_gtFine_instanceIds.png"
_SOURCE = (
    "Register at https://www.cityscapes-dataset.com, download gtFine_trainvaltest.zip (and "
    "leftImg8bit_trainvaltest.zip) and unpack them in cityscapes."
)
# Of the 19 classes, in the order of their train ids: the group and the color that the panoptic JSON states.
_GROUPS = ("flat",) * 2 + ("construction",) * 3 + ("object",) * 3 + ("nature",) * 2 + ("sky",) + ("human",) * 2
_SUPERCATEGORIES = (*_GROUPS, *("vehicle",) * 6)
_COLORS = (
    "804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046 003c64 "
    "005064 0000e6 770b20"
).split()


def _needs(split: str) -> list[Need]:
    return [Need(f"{_ROOT}/{split}", _SOURCE)]


def _plans(root: Path, split: str) -> Sequence[Plan]:
    folder = root / _ROOT / f"cityscapes_panoptic_{split}"
    files = list_files(root / _ROOT / split, f"*/*{_END}", _SOURCE)
    names = [path.name.removesuffix(_END) for path in files]
    pairs = zip(files, names, strict=True)
    maps = check_files([path.with_name(f"{name}_gtFine_labelIds.png") for path, name in pairs], _SOURCE)
    tasks = []
    for name, instances, labels in zip(names, files, maps, strict=True):
        targets = (
            instances.with_name(f"{name}_gtFine_labelTrainIds.png"),
            folder / f"{name}_gtFine_panoptic.png",
        )
        tasks.append(Task(name, (instances, labels), targets))
    unscored = dict.fromkeys(range(_LARGEST_ID + 1), IGNORE[".png"])
    table = class_table("cityscapes", unlabeled=unscored)
    isthing = Vocabulary.load("cityscapes").isthing
    json = JsonFile(path=folder.with_suffix(".json"), content=_content, values=_values)
    return [Plan(tasks=tasks, work=partial(_convert, table, isthing), is_whole=_is_whole, json=json)]


def _convert(table: NDArray[np.int32], isthing: tuple[bool, ...], task: Task) -> tuple[int, dict[str, Any]]:
    """Write both maps of an image; returns its entries in the JSON.

    An instance map holds class · 1000 + number for an instance, and the class alone for stuff and for a group of
    things, which is a crowd. Classes that are not scored are void.
    """
    instances, labels = task.sources
    train_ids = apply_table(read_label_map(labels), table, labels, f"Cityscapes' label ids 0 … {_LARGEST_ID}")
    ids = read_pixels(instances, ("I;16", "I")).astype(np.int32)
    kept, segments = np.zeros_like(ids), []
    for number in np.unique(ids).tolist():
        category = number // 1000 if number >= 1000 else number
        if category > _LARGEST_ID:
            raise ValueError(
                f"{instances} has the value {number}, but label ids 0 … {_LARGEST_ID}, alone or as id · 1000 + number, "
                "are expected; unpack gtFine_trainvaltest.zip again."
            )
        train_id = int(table[category])
        if train_id != IGNORE[".png"]:
            mask = ids == number
            kept[mask] = number
            segments.append(segment_info(number, category, mask, iscrowd=int(number < 1000 and isthing[train_id])))
    train_map, panoptic_map = task.targets
    written = write_picture(train_map, train_ids.astype(np.uint8)) + write_picture(panoptic_map, id_to_rgb(kept))
    height, width = ids.shape
    # The name of the image is that of no file, but so it stands in the field's files.
    image = {"id": task.key, "width": width, "height": height, "file_name": f"{task.key}_gtFine_leftImg8bit.png"}
    annotation = {"image_id": task.key, "file_name": panoptic_map.name, "segments_info": segments}
    return written, {"image": image, "annotation": annotation}


def _is_whole(task: Task) -> bool:
    size = size_of(task.sources[0])
    return is_whole(task.targets[0], size, "L") and is_whole(task.targets[1], size, "RGB")


def _content(values: list[dict[str, Any]]) -> dict[str, Any]:
    rows = zip(Vocabulary.load("cityscapes").categories, _SUPERCATEGORIES, _COLORS, strict=True)
    return {
        "images": [value["image"] for value in values],
        "annotations": [value["annotation"] for value in values],
        "categories": [
            {
                "id": category.dataset_id,
                "name": category.dataset_name,
                "color": list(bytes.fromhex(color)),
                "supercategory": group,
                "isthing": int(category.isthing),
            }
            for category, group, color in rows
        ],
    }


def _values(content: dict[str, Any]) -> dict[str, Any]:
    images = {image["id"]: image for image in content["images"]}
    return {
        annotation["image_id"]: {"image": images[annotation["image_id"]], "annotation": annotation}
        for annotation in content["annotations"]
    }


CITYSCAPES = FilePreparation(
    name="cityscapes",
    description="Cityscapes' fine annotation → *_labelTrainIds.png and gtFine/cityscapes_panoptic_{train,val}",
    needs=_needs,
    plans=_plans,
)
