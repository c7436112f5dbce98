"""ADE20K-150: its instance maps as annotations in the COCO format."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.data.preparation.ade20k_semantic import FOLDERS, ROOT, SCENES
from possam.data.preparation.pictures import read_pixels
from possam.data.preparation.plan import JsonFile, Need, Plan, Task, list_files, pair_files
from possam.data.preparation.preparation import FilePreparation
from possam.data.preparation.segments import box_of
from possam.data.run_lengths import encode_mask
from possam.utils.messages import few
from possam.vocabulary import Vocabulary

__all__ = ["ADE20K_INSTANCE", "INSTANCES", "instance_tasks", "read_instances", "thing_classes"]

INSTANCES = (
    "Download http://sceneparsing.csail.mit.edu/data/ChallengeData2017/annotations_instance.tar and unpack it in "
    "ADEChallengeData2016."
)


@cache
def thing_classes() -> tuple[int, ...]:
    """The contiguous class of each of the 100 instance classes: they are the things of the 150, in order."""
    return tuple(place for place, isthing in enumerate(Vocabulary.load("ade20k_150").isthing) if isthing)


def read_instances(path: Path) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """(serial number, contiguous class, H×W mask) of every instance of an official map, by serial number.

    An official map is RGB: red the class, 1 … 100, green the serial number within the image, 0 for none.

    Raises:
        ValueError: another class, or an instance of two; names the file.
    """
    pixels = read_pixels(path, ("RGB",))
    classes, serials = pixels[..., 0], pixels[..., 1]
    things = thing_classes()
    result = []
    for serial in np.unique(serials[serials > 0]).tolist():
        mask = serials == serial
        values = np.unique(classes[mask]).tolist()
        if len(values) != 1 or not 1 <= values[0] <= len(things):
            raise ValueError(
                f"{path}: instance {serial} (green) has the classes {few(values)} (red), but one of 1 … {len(things)} "
                "is expected; unpack annotations_instance.tar again."
            )
        result.append((serial, things[values[0] - 1], mask))
    return result


def instance_tasks(root: Path, split: str) -> list[tuple[str, Path, Path]]:
    """(name, image, instance map) of every image of a split."""
    folder = FOLDERS[split]
    images = list_files(root / ROOT / "images" / folder, "*.jpg", SCENES)
    maps = pair_files(images, root / ROOT / "annotations_instance" / folder, ".png", INSTANCES)
    return [(image.stem, image, path) for image, path in zip(images, maps, strict=True)]


def _needs(split: str) -> list[Need]:
    folder = FOLDERS[split]
    return [
        Need(f"{ROOT}/images/{folder}", SCENES),
        Need(f"{ROOT}/annotations_instance/{folder}", INSTANCES),
    ]


def _plans(root: Path, split: str) -> Sequence[Plan]:
    tasks = [Task(name, (path,), ()) for name, _, path in instance_tasks(root, split)]
    path = root / ROOT / f"ade20k_instance_{split}.json"
    json = JsonFile(path=path, content=_content, values=_values)
    return [Plan(tasks=tasks, work=_annotate, is_whole=_has_no_files, json=json)]


def _has_no_files(task: Task) -> bool:
    return True


def _annotate(task: Task) -> tuple[int, dict[str, Any]]:
    instances = read_instances(task.sources[0])
    size = instances[0][2].shape if instances else read_pixels(task.sources[0], ("RGB",)).shape[:2]
    image = {"id": task.key, "file_name": f"{task.key}.jpg", "width": size[1], "height": size[0]}
    annotations = []
    for _, category, mask in instances:
        annotations.append(
            {
                "image_id": task.key,
                "category_id": category,
                "iscrowd": 0,
                "bbox": box_of(mask),
                "area": int(mask.sum()),
                "segmentation": encode_mask(mask),
            }
        )
    return 0, {"image": image, "annotations": annotations}


def _content(values: list[dict[str, Any]]) -> dict[str, Any]:
    vocabulary = Vocabulary.load("ade20k_150")
    annotations = [annotation for value in values for annotation in value["annotations"]]
    return {
        "images": [value["image"] for value in values],
        "categories": [{"id": place, "name": vocabulary.categories[place].dataset_name} for place in thing_classes()],
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)],
    }


def _values(content: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {image["id"]: {"image": image, "annotations": []} for image in content["images"]}
    for annotation in content["annotations"]:
        plain = {key: value for key, value in annotation.items() if key != "id"}
        values[annotation["image_id"]]["annotations"].append(plain)
    return values


ADE20K_INSTANCE = FilePreparation(
    name="ade20k_instance",
    description="ADE20K's instance maps → ADEChallengeData2016/ade20k_instance_{train,val}.json (COCO format)",
    needs=_needs,
    plans=_plans,
)
