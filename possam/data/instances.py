"""Instance annotations: JSONs in the COCO instance format, and in LVIS's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from possam.d2.structures import BoxMode
from possam.data.checks import (
    check_files,
    is_number,
    read_annotation_file,
    require_id,
    require_keys,
    require_list,
    require_name,
    require_size,
    require_unique,
    to_contiguous,
)
from possam.data.images import ImageFinder
from possam.messages import few
from possam.vocabulary import Vocabulary

__all__ = ["load_instances"]

_KEYS = ("image_id", "category_id", "segmentation", "bbox", "area")
_FEDERATED_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")


def load_instances(
    *,
    image_root: str | Path,
    instances_json: str | Path,
    vocabulary: Vocabulary,
    federated: bool = False,
    image_names: str = "file_name",
    image_suffix: str = ".jpg",
    need_images: bool = True,
    mend: str = "",
) -> list[dict[str, Any]]:
    """Read and validate an annotation file.

    Args:
        image_root: folder of the images.
        instances_json: the annotation file.
        vocabulary: the classes; their `dataset_id` are the JSON's category ids.
        federated: LVIS's format: images also say of which classes they have none, and of which not all is annotated.
        image_names, image_suffix: how the JSON names images (`possam.data.images.ImageFinder`).
        need_images: whether the images must be there.
        mend: what to do where files are missing.
    Returns:
        one dict an image, in the JSON's order, with or without instances: ``file_name``, ``image_id``, ``height``,
        ``width`` and ``annotations``, a list of dicts with ``category_id`` (contiguous), ``iscrowd`` (0 or 1),
        ``area``, ``bbox`` (x, y, width, height in pixels), ``bbox_mode`` and ``segmentation`` (polygons or a run-length
        mask); federated ones have ``neg_category_ids`` and ``not_exhaustive_category_ids`` (contiguous) too.

    Raises:
        FileNotFoundError: the JSON or images are not there; names the first of them.
        ValueError: keys are missing, ids are duplicate or refer to nothing, a class is stuff, or an instance has no
            mask; names them.
    """
    source, format = str(instances_json), "LVIS" if federated else "COCO instance"
    content = read_annotation_file(instances_json, mend)
    require_keys(content, ("images", "annotations"), source, format)
    for key in ("images", "annotations"):
        require_list(content[key], f"{source}: {key}")
    keys = ("id", "height", "width", *(_FEDERATED_KEYS if federated else ()))
    keys += (image_names,) if image_names in ("file_name", "coco_url") else ()
    for position, image in enumerate(content["images"]):
        where = f"{source}: images[{position}]"
        require_keys(image, keys, where, format)
        require_id(image["id"], f"{where}.id")
        require_size(image, where)
        for key in ("file_name", "coco_url"):
            if key in image:
                require_name(image[key], f"{where}.{key}")
        for key in _FEDERATED_KEYS if federated else ():
            require_list(image[key], f"{where}.{key}")
    require_unique((image["id"] for image in content["images"]), f"{source}: image ids")
    annotations = _by_image(content["annotations"], vocabulary, source, format)
    absent = sorted(annotations.keys() - {image["id"] for image in content["images"]}, key=str)
    if absent:
        raise ValueError(
            f"{source}: annotations name the image ids {few(absent)}, which are not among its images; "
            "add the images or remove the annotations."
        )
    finder = ImageFinder(root=image_root, names=image_names, suffix=image_suffix)
    records = []
    for image in content["images"]:
        record = {
            "file_name": finder.path(image),
            "image_id": image["id"],
            "height": int(image["height"]),
            "width": int(image["width"]),
            "annotations": annotations.get(image["id"], []),
        }
        for key in _FEDERATED_KEYS if federated else ():
            record[key] = to_contiguous(image[key], vocabulary, f"{source}: {key} of image {image['id']}")
        records.append(record)
    if need_images:
        files = (record["file_name"] for record in records)
        check_files(files, f"images of {source}", mend or f"Check image_root ({image_root}).")
    return records


def _by_image(
    annotations: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, source: str, format: str
) -> dict[Any, list[dict[str, Any]]]:
    """Detectron2's annotations, by image id."""
    for position, annotation in enumerate(annotations):
        where = f"{source}: annotations[{position}]"
        require_keys(annotation, _KEYS, where, format)
        require_id(annotation["image_id"], f"{where}.image_id")
        _check_values(annotation, where)
    classes = to_contiguous((annotation["category_id"] for annotation in annotations), vocabulary, source)
    stuff = sorted({vocabulary.display_names[category] for category in classes if not vocabulary.isthing[category]})
    if stuff:
        raise ValueError(f"{source}: the classes {few(stuff)} have instances, but are stuff in {vocabulary.name!r}.")
    without = [
        f"{annotation.get('id', position)!r:.40}"
        for position, annotation in enumerate(annotations)
        if not _is_mask(annotation["segmentation"])
    ]
    if without:
        raise ValueError(
            f"{source}: annotations {few(without)} have no mask: expected polygons [[x, y, …], …] or a run-length mask "
            "{size, counts}."
        )
    result: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation, category in zip(annotations, classes, strict=True):
        result[annotation["image_id"]].append(
            {
                "category_id": category,
                "iscrowd": int(annotation.get("iscrowd", 0)),
                "area": annotation["area"],
                "bbox": annotation["bbox"],
                "bbox_mode": BoxMode.XYWH_ABS,
                "segmentation": annotation["segmentation"],
            }
        )
    return dict(result)


def _check_values(annotation: Mapping[str, Any], where: str) -> None:
    box, area, crowd = annotation["bbox"], annotation["area"], annotation.get("iscrowd", 0)
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise ValueError(f"{where}.bbox must be four numbers, x, y, width and height in pixels, but is {box!r:.80}.")
    if not is_number(area):
        raise ValueError(f"{where}.area must be a number of pixels, but is {area!r:.80}.")
    if crowd not in (0, 1):
        raise ValueError(f"{where}.iscrowd must be 0 or 1, but is {crowd!r:.80}.")


def _is_mask(segmentation: Any) -> bool:
    if isinstance(segmentation, Mapping):
        return "size" in segmentation and "counts" in segmentation
    polygons = isinstance(segmentation, list) and bool(segmentation)
    return polygons and all(isinstance(polygon, list) and len(polygon) % 2 == 0 for polygon in segmentation)
