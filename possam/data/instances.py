"""Instance annotations: JSONs in the COCO instance format, and in LVIS's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from possam.d2.structures import BoxMode
from possam.data.checks import (
    check_files,
    read_annotation_file,
    require_keys,
    require_list,
    require_unique,
    to_contiguous,
)
from possam.data.coco_format import (
    FEDERATED_KEYS,
    INSTANCES,
    LVIS,
    check_area,
    check_image,
    check_instance,
    check_listed,
)
from possam.data.images import ImageFinder
from possam.data.run_lengths import check_mask
from possam.utils.messages import few
from possam.vocabulary import Vocabulary

__all__ = ["load_instances"]


def load_instances(
    *,
    image_root: str | Path,
    instances_json: str | Path,
    vocabulary: Vocabulary,
    federated: bool = False,
    left_out: Collection[int] = (),
    image_names: str = "file_name",
    image_suffix: str = ".jpg",
    need_images: bool = True,
    fix: str = "",
) -> list[dict[str, Any]]:
    """Read and validate an annotation file.

    Args:
        image_root: folder of the images.
        instances_json: the annotation file.
        vocabulary: the classes; their `dataset_id` are the JSON's category ids.
        federated: LVIS's format: images also say of which classes they have none, and of which not all is annotated.
        left_out: category ids whose instances are not to be had, and which need not be in the vocabulary.
        image_names, image_suffix: how the JSON names images (`possam.data.images.ImageFinder`).
        need_images: whether the images must be there.
        fix: what to do where files are missing.
    Returns:
        one dict an image, in the JSON's order, with or without instances: ``file_name``, ``image_id``, ``height``,
        ``width`` and ``annotations``, a list of dicts with ``category_id`` (contiguous), ``iscrowd`` (0 or 1),
        ``area``, ``bbox`` (x, y, width, height in pixels), ``bbox_mode`` and ``segmentation`` (polygons or a run-length
        mask); federated ones have ``neg_category_ids`` and ``not_exhaustive_category_ids`` (contiguous) too.

    Raises:
        FileNotFoundError: the JSON or images are not there; names the first of them.
        ValueError: keys are missing, ids are duplicate or refer to nothing, a class is stuff, or an instance has no
            mask or one that covers something else than its box says; names them.
    """
    source, format = str(instances_json), LVIS if federated else INSTANCES
    content = read_annotation_file(instances_json, fix)
    require_keys(content, ("images", "annotations"), source, format)
    for key in ("images", "annotations"):
        require_list(content[key], f"{source}: {key}")
    for position, image in enumerate(content["images"]):
        check_image(image, position, f"{source}: ", format=format, image_names=image_names)
    require_unique((image["id"] for image in content["images"]), f"{source}: image ids")
    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in content["images"]}
    annotations = _by_image(content["annotations"], sizes, vocabulary, source, format, left_out)
    finder = ImageFinder(root=image_root, names=image_names, suffix=image_suffix)
    records = []
    for image in content["images"]:
        record = {
            "file_name": finder.path(image),
            "image_id": image["id"],
            "height": sizes[image["id"]][0],
            "width": sizes[image["id"]][1],
            "annotations": annotations.get(image["id"], []),
        }
        for key in FEDERATED_KEYS if federated else ():
            kept = [category for category in image[key] if category not in left_out]
            record[key] = to_contiguous(kept, vocabulary, f"{source}: {key} of image {image['id']}")
        records.append(record)
    if need_images:
        files = (record["file_name"] for record in records)
        check_files(files, f"images of {source}", fix or f"Check image_root ({image_root}).")
    return records


def _by_image(
    annotations: Sequence[Mapping[str, Any]],
    sizes: Mapping[Any, tuple[int, int]],
    vocabulary: Vocabulary,
    source: str,
    format: str,
    left_out: Collection[int],
) -> dict[Any, list[dict[str, Any]]]:
    """Detectron2's annotations, by image id."""
    for position, annotation in enumerate(annotations):
        check_instance(annotation, position, f"{source}: ", format=format)
    check_listed(dict.fromkeys(annotation["image_id"] for annotation in annotations), sizes, source)
    annotations = [annotation for annotation in annotations if annotation["category_id"] not in left_out]
    classes = to_contiguous((annotation["category_id"] for annotation in annotations), vocabulary, source)
    stuff = sorted({vocabulary.display_names[category] for category in classes if not vocabulary.isthing[category]})
    if stuff:
        raise ValueError(f"{source}: the classes {few(stuff)} have instances, but are stuff in {vocabulary.name!r}.")
    result: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for position, (annotation, category) in enumerate(zip(annotations, classes, strict=True)):
        size = sizes[annotation["image_id"]]
        where = f"{source}: annotation {annotation.get('id', position)!r:.40} of image {annotation['image_id']!r:.80}"
        check_area(annotation["area"], size, where)
        check_mask(annotation["segmentation"], size, box=annotation["bbox"], source=where)
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

