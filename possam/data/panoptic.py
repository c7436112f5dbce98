"""Datasets in the COCO panoptic format: a JSON, a folder of images, one of RGB id PNGs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from possam.data.catalog import ANNOTATIONS, register
from possam.data.checks import (
    check_files,
    read_annotation_file,
    require_keys,
    require_list,
    require_unique,
    to_contiguous,
)
from possam.data.coco_format import (
    PANOPTIC,
    check_area,
    check_category,
    check_image,
    check_listed,
    check_panoptic_annotation,
)
from possam.data.images import ImageFinder
from possam.utils.files import expand_home, read_json
from possam.vocabulary import Vocabulary

__all__ = ["load_panoptic", "panoptic_vocabulary", "register_panoptic"]


def register_panoptic(
    name: str,
    *,
    image_root: str | Path,
    panoptic_root: str | Path,
    panoptic_json: str | Path,
    vocabulary: Vocabulary | None = None,
    prepare: str = "",
    root: str | Path | None = None,
    class_split: str = "",
) -> None:
    """Make a panoptic dataset known to the catalogs under `name`.

    The JSON is read and validated (`load_panoptic`) whenever the dataset is loaded, so a dataset with its own
    `vocabulary` may be registered before its files are there. Registering the same dataset again is harmless.

    Args:
        name: name in ``DatasetCatalog`` and ``MetadataCatalog``.
        image_root: folder to which the JSON's ``images[].file_name`` are relative.
        panoptic_root: folder to which the JSON's ``annotations[].file_name`` are relative.
        panoptic_json: the annotation file.
        vocabulary: the classes; their `dataset_id` are the JSON's category ids. None: the JSON's own
            ``categories``, which are then read now.
        prepare: what to do for the files, said where they are missing when the dataset is loaded.
        root, class_split: see `possam.data.catalog.register`.

    Raises:
        ValueError: another dataset has this name already; or the JSON's categories are unusable.
        FileNotFoundError: `vocabulary` is None and there is no JSON.
    """
    panoptic_json = expand_home(panoptic_json)
    if vocabulary is None:
        vocabulary = panoptic_vocabulary(panoptic_json, name)
    places = {
        "image_root": expand_home(image_root),
        "panoptic_root": expand_home(panoptic_root),
        "panoptic_json": panoptic_json,
    }
    chosen = vocabulary

    def load() -> list[dict[str, Any]]:
        return load_panoptic(**places, vocabulary=chosen, fix=prepare)

    register(name, load, vocabulary=vocabulary, tasks=ANNOTATIONS, places=places, root=root, class_split=class_split)


def panoptic_vocabulary(path: str | Path, name: str) -> Vocabulary:
    """Read the classes of a panoptic JSON from its ``categories``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are no categories, or one has no id, no name or no ``isthing``, which the panoptic format
            requires; names the file and the category.
    """
    categories: Any = read_json(path).get("categories")
    require_list(categories, f"{path}: categories")
    for position, category in enumerate(categories):
        check_category(category, position, f"{path}: ", format=PANOPTIC)
    try:
        return Vocabulary.from_coco_categories(categories, name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_panoptic(
    *,
    image_root: str | Path | None,
    panoptic_root: str | Path,
    panoptic_json: str | Path,
    vocabulary: Vocabulary,
    image_names: str = "file_name",
    image_suffix: str = ".jpg",
    fix: str = "",
) -> list[dict[str, Any]]:
    """Read and validate an annotation file.

    Args:
        image_root: folder of the images, or None where the images are not needed and may be absent.
        panoptic_root, panoptic_json, vocabulary: see `register_panoptic`.
        image_names, image_suffix: how the JSON names images (`possam.data.images.ImageFinder`).
        fix: what to do where files are missing.
    Returns:
        one dict an annotated image, in the JSON's order: ``file_name``, ``image_id``, ``height``, ``width``,
        ``pan_seg_file_name`` and ``segments_info``, whose entries keep all that the JSON says, with
        ``category_id`` contiguous (a position in `vocabulary`), ``isthing`` and ``iscrowd`` as bools.

    Raises:
        FileNotFoundError: the JSON, images or PNGs are not there; names the first of them.
        ValueError: keys are missing, ids are duplicate, out of range or refer to nothing; names them.
    """
    source = str(panoptic_json)
    content = read_annotation_file(panoptic_json, fix)
    images = _images(content, source, image_names if image_root is not None else "file_name")
    finder = ImageFinder(root=image_root, names=image_names, suffix=image_suffix)
    records = []
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        size, where = (int(image["height"]), int(image["width"])), f"{source}: image {annotation['image_id']!r}"
        records.append(
            {
                "file_name": finder.path(image, annotation),
                "image_id": annotation["image_id"],
                "height": size[0],
                "width": size[1],
                "pan_seg_file_name": str(Path(panoptic_root) / annotation["file_name"]),
                "segments_info": _segments(annotation["segments_info"], vocabulary, size, where),
            }
        )
    if image_root is not None:
        files = (record["file_name"] for record in records)
        check_files(files, f"images of {source}", fix or f"Check image_root ({image_root}).")
    files = (record["pan_seg_file_name"] for record in records)
    check_files(files, f"panoptic PNGs of {source}", fix or f"Check panoptic_root ({panoptic_root}).")
    return records


def _images(content: Any, source: str, image_names: str) -> dict[Any, Mapping[str, Any]]:
    """The JSON's images by id, once they and the annotations are known to fit together."""
    require_keys(content, ("images", "annotations"), source, PANOPTIC)
    for key in ("images", "annotations"):
        require_list(content[key], f"{source}: {key}")
    for position, image in enumerate(content["images"]):
        check_image(image, position, f"{source}: ", format=PANOPTIC, image_names=image_names)
    for position, annotation in enumerate(content["annotations"]):
        check_panoptic_annotation(annotation, position, f"{source}: ")
    require_unique((image["id"] for image in content["images"]), f"{source}: image ids")
    require_unique((a["image_id"] for a in content["annotations"]), f"{source}: annotated image ids")
    require_unique((a["file_name"] for a in content["annotations"]), f"{source}: PNG names of annotations")
    images = {image["id"]: image for image in content["images"]}
    check_listed((a["image_id"] for a in content["annotations"]), images, source)
    return images


def _segments(
    segments: list[dict[str, Any]], vocabulary: Vocabulary, size: tuple[int, int], where: str
) -> list[dict[str, Any]]:
    classes = to_contiguous((segment["category_id"] for segment in segments), vocabulary, where)
    for segment in segments:
        check_area(segment.get("area", 0), size, f"{where}: segment {segment['id']}")
    return [
        {
            **segment,
            "category_id": category,
            "isthing": bool(vocabulary.isthing[category]),
            "iscrowd": bool(segment["iscrowd"]),
        }
        for segment, category in zip(segments, classes, strict=True)
    ]
