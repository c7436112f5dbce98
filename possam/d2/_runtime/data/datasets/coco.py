"""COCO's instance annotations, read and written, and folders of label images."""

import contextlib
import io
import json
import os
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

from ...structures import Boxes, BoxMode, PolygonMasks
from ...utils.file_io import PathManager
from ...utils.logger import runtime_logger
from ..catalog import DatasetCatalog, MetadataCatalog

__all__ = [
    "convert_to_coco_dict",
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco_instances",
]

logger = runtime_logger(__name__)


def load_coco_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Read a COCO instances file into dicts in Detectron2's format, in order of image ids.

    Args:
        json_file: path or URL.
        image_root: folder of the images.
        dataset_name: where given, its metadata gets thing_classes and thing_dataset_id_to_contiguous_id, and
            category ids become contiguous; otherwise they stay as they are.
        extra_annotation_keys: further keys to keep of every annotation.

    Raises:
        ValueError: a box is empty. KeyError: an annotation names an unknown category.
    """
    json_file = PathManager.get_local_path(json_file)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(json_file)
    contiguous = None if dataset_name is None else _declare_categories(coco, dataset_name)
    if "minival" not in json_file:  # the one published file with repeated ids
        ids = [one["id"] for annotations in coco.imgToAnns.values() for one in annotations]
        assert len(set(ids)) == len(ids), f"annotation ids in '{json_file}' are not unique"
    keys = ("iscrowd", "bbox", "category_id", *(extra_annotation_keys or ()))
    items = []
    dropped = 0
    for image_id in sorted(coco.imgs):
        image, annotations = coco.imgs[image_id], coco.imgToAnns[image_id]
        objects = [_read_annotation(one, image_id, keys, contiguous) for one in annotations]
        dropped += objects.count(None)
        items.append(
            {
                "file_name": os.path.join(image_root, image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image_id,
                "annotations": [one for one in objects if one is not None],
            }
        )
    if dropped:
        logger.warning(f"{json_file}: {dropped} instances were dropped, since none of their polygons is one")
    logger.info(f"Loaded {len(items)} images from {json_file}")
    return items


def _declare_categories(coco: COCO, dataset_name: str) -> dict[int, int]:
    categories = sorted(coco.cats.values(), key=lambda category: category["id"])
    contiguous = {category["id"]: index for index, category in enumerate(categories)}
    MetadataCatalog.get(dataset_name).set(
        thing_classes=[category["name"] for category in categories],
        thing_dataset_id_to_contiguous_id=contiguous,
    )
    return contiguous


def _read_annotation(
    annotation: dict[str, Any], image_id: int, keys: tuple[str, ...], contiguous: dict[int, int] | None
) -> dict[str, Any] | None:
    """One annotation in Detectron2's format, or None if it has polygons but no valid one."""
    assert annotation["image_id"] == image_id, annotation
    assert not annotation.get("ignore", 0), "annotations with 'ignore' are not supported"
    result = {key: annotation[key] for key in keys if key in annotation}
    if "bbox" in result and len(result["bbox"]) == 0:
        raise ValueError(f"an annotation of image {image_id} has an empty 'bbox'")
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
        result["segmentation"] = segmentation
    elif segmentation:
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
        if not polygons:
            return None
        result["segmentation"] = polygons
    result["bbox_mode"] = BoxMode.XYWH_ABS
    if contiguous is not None:
        category = result["category_id"]
        if category not in contiguous:
            raise KeyError(f"image {image_id} has an annotation of category {category}, which the file does not list")
        result["category_id"] = contiguous[category]
    return result


def load_sem_seg(
    gt_root: str, image_root: str, gt_ext: str = "png", image_ext: str = "jpg"
) -> list[dict[str, Any]]:
    """Pair images with label images of the same name: dicts of "file_name" and "sem_seg_file_name"."""
    images, labels = _by_stem(image_root, image_ext), _by_stem(gt_root, gt_ext)
    assert labels, f"there are no .{gt_ext} files in {gt_root}"
    common = sorted(images.keys() & labels.keys())
    if len(common) < max(len(images), len(labels)):
        logger.warning(f"{image_root} has {len(images)} images, {gt_root} {len(labels)}; {len(common)} are in both")
    return [{"file_name": images[stem], "sem_seg_file_name": labels[stem]} for stem in common]


def _by_stem(folder: str, extension: str) -> dict[str, str]:
    return {
        name[: -len(extension)]: os.path.join(folder, name)
        for name in PathManager.ls(folder)
        if name.endswith(extension)
    }


def convert_to_coco_dict(dataset_name: str) -> dict[str, Any]:
    """A registered dataset in COCO's instances format; the inverse of `load_coco_json`."""
    metadata = MetadataCatalog.get(dataset_name)
    dataset_ids = {index: id for id, index in metadata.get("thing_dataset_id_to_contiguous_id", {}).items()}

    def dataset_id(category: int) -> int:
        return dataset_ids[category] if dataset_ids else category

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(DatasetCatalog.get(dataset_name)):
        image = {key: int(item[key]) for key in ("width", "height")}
        images.append({"id": item.get("image_id", number), "file_name": str(item["file_name"]), **image})
        for annotation in item.get("annotations", []):
            written = _write_annotation(annotation)
            written["id"] = len(annotations) + 1  # pycocotools takes 0 for "no match"
            written["image_id"] = images[-1]["id"]
            written["category_id"] = int(dataset_id(annotation["category_id"]))
            annotations.append(written)
    result: dict[str, Any] = {
        "info": {"description": f"The dataset '{dataset_name}' in COCO's format."},
        "images": images,
        "categories": [
            {"id": dataset_id(index), "name": name} for index, name in enumerate(metadata.thing_classes)
        ],
        "licenses": None,
    }
    if annotations:
        result["annotations"] = annotations
    return result


def _write_annotation(annotation: dict[str, Any]) -> dict[str, Any]:
    box = np.asarray(annotation["bbox"])
    if box.shape not in ((4,), (5,)):
        raise ValueError(f"a bbox is 4 numbers, or 5 if rotated, but its shape is {box.shape}")
    mode = BoxMode.XYWH_ABS if len(box) == 4 else BoxMode.XYWHA_ABS
    numbers = BoxMode.convert(box.tolist(), annotation["bbox_mode"], mode)
    result: dict[str, Any] = {
        "bbox": [round(float(number), 3) for number in numbers],
        "iscrowd": int(annotation.get("iscrowd", 0)),
    }
    segmentation = annotation.get("segmentation")
    if segmentation is None:
        result["area"] = _box_area(numbers)
    elif isinstance(segmentation, list):
        result["area"] = float(PolygonMasks([segmentation]).area()[0])
        result["segmentation"] = segmentation
    elif isinstance(segmentation, dict):
        result["area"] = float(mask_util.area(segmentation))
        counts = segmentation["counts"]
        result["segmentation"] = {
            **segmentation,
            "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
        }
    else:
        raise TypeError(f"a segmentation is a list of polygons or an RLE dict, but {type(segmentation)} came")
    return result


def _box_area(numbers: Any) -> float:
    """Area of (x, y, width, height), or of a rotated box, whose sizes stand in the same places."""
    return float(Boxes([[0.0, 0.0, numbers[2], numbers[3]]]).area()[0])  # type: ignore[arg-type]


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Write `convert_to_coco_dict` to a file, unless it exists and ``allow_cached``."""
    if allow_cached and PathManager.exists(output_file):
        logger.warning(f"'{output_file}' exists and is used as it is; delete it if the dataset has changed")
        return
    PathManager.mkdirs(os.path.dirname(output_file) or ".")
    # Written beside its place and moved there whole, so that nobody ever reads half a file.
    partial = f"{output_file}.{os.getpid()}.tmp"
    with PathManager.open(partial, "w") as file:
        json.dump(convert_to_coco_dict(dataset_name), file)
    os.replace(partial, output_file)


def register_coco_instances(name: str, metadata: dict[str, Any], json_file: str, image_root: str) -> None:
    """Register a COCO instances file as a dataset.

    Args:
        name: name of the dataset.
        metadata: further facts for its metadata.
        json_file, image_root: as in `load_coco_json`.
    """
    assert isinstance(name, str), name
    for path in (json_file, image_root):
        assert isinstance(path, (str, os.PathLike)), path
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata)
