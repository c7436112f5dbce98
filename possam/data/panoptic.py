"""Datasets in the COCO panoptic format: a JSON, a folder of images, one of RGB id PNGs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from possam.data.catalog import register
from possam.data.checks import (
    check_files,
    read_annotation_file,
    require_id,
    require_keys,
    require_list,
    require_name,
    require_size,
    require_unique,
    to_contiguous,
)
from possam.data.id_maps import MAX_ID
from possam.data.images import ImageFinder
from possam.files import expand_home, read_json
from possam.messages import few
from possam.vocabulary import Vocabulary

__all__ = ["TASKS", "load_panoptic", "register_panoptic"]

TASKS = ("panoptic", "semantic", "instance")
_FORMAT = "COCO panoptic"


def register_panoptic(
    name: str,
    *,
    image_root: str | Path,
    panoptic_root: str | Path,
    panoptic_json: str | Path,
    vocabulary: Vocabulary | None = None,
    prepare: str = "",
    root: str | Path | None = None,
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
        root: see `possam.data.catalog.register`.

    Raises:
        ValueError: another dataset has this name already; or the JSON's categories are unusable.
        FileNotFoundError: `vocabulary` is None and there is no JSON.
    """
    panoptic_json = expand_home(panoptic_json)
    if vocabulary is None:
        content = read_json(panoptic_json)
        require_keys(content, ("categories",), f"{panoptic_json}", _FORMAT)
        try:
            vocabulary = Vocabulary.from_coco_categories(content["categories"], name)
        except ValueError as error:
            raise ValueError(f"{panoptic_json}: {error}") from error
    places = {
        "image_root": expand_home(image_root),
        "panoptic_root": expand_home(panoptic_root),
        "panoptic_json": panoptic_json,
    }
    chosen = vocabulary

    def load() -> list[dict[str, Any]]:
        return load_panoptic(**places, vocabulary=chosen, mend=prepare)

    register(name, load, vocabulary=vocabulary, tasks=TASKS, places=places, root=root)


def load_panoptic(
    *,
    image_root: str | Path | None,
    panoptic_root: str | Path,
    panoptic_json: str | Path,
    vocabulary: Vocabulary,
    image_names: str = "file_name",
    image_suffix: str = ".jpg",
    mend: str = "",
) -> list[dict[str, Any]]:
    """Read and validate an annotation file.

    Args:
        image_root: folder of the images, or None where the images are not needed and may be absent.
        panoptic_root, panoptic_json, vocabulary: see `register_panoptic`.
        image_names, image_suffix: how the JSON names images (`possam.data.images.ImageFinder`).
        mend: what to do where files are missing.
    Returns:
        one dict an annotated image, in the JSON's order: ``file_name``, ``image_id``, ``height``, ``width``,
        ``pan_seg_file_name`` and ``segments_info``, whose entries keep all that the JSON says, with
        ``category_id`` contiguous (a position in `vocabulary`), ``isthing`` and ``iscrowd`` as bools.

    Raises:
        FileNotFoundError: the JSON, images or PNGs are not there; names the first of them.
        ValueError: keys are missing, ids are duplicate, out of range or refer to nothing; names them.
    """
    source = str(panoptic_json)
    content = read_annotation_file(panoptic_json, mend)
    images = _images(content, source)
    finder = ImageFinder(root=image_root, names=image_names, suffix=image_suffix)
    records = []
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        records.append(
            {
                "file_name": finder.path(image, annotation),
                "image_id": annotation["image_id"],
                "height": int(image["height"]),
                "width": int(image["width"]),
                "pan_seg_file_name": str(Path(panoptic_root) / annotation["file_name"]),
                "segments_info": _segments(
                    annotation["segments_info"], vocabulary, f"{source}: image {annotation['image_id']}"
                ),
            }
        )
    if image_root is not None:
        files = (record["file_name"] for record in records)
        check_files(files, f"images of {source}", mend or f"Check image_root ({image_root}).")
    files = (record["pan_seg_file_name"] for record in records)
    check_files(files, f"panoptic PNGs of {source}", mend or f"Check panoptic_root ({panoptic_root}).")
    return records


def _images(content: Any, source: str) -> dict[Any, Mapping[str, Any]]:
    """The JSON's images by id, once they and the annotations are known to fit together."""
    require_keys(content, ("images", "annotations"), source, _FORMAT)
    for key in ("images", "annotations"):
        require_list(content[key], f"{source}: {key}")
    for position, image in enumerate(content["images"]):
        where = f"{source}: images[{position}]"
        require_keys(image, ("id", "file_name", "height", "width"), where, _FORMAT)
        require_id(image["id"], f"{where}.id")
        require_name(image["file_name"], f"{where}.file_name")
        require_size(image, where)
    for position, annotation in enumerate(content["annotations"]):
        where = f"{source}: annotations[{position}]"
        require_keys(annotation, ("image_id", "file_name", "segments_info"), where, _FORMAT)
        require_id(annotation["image_id"], f"{where}.image_id")
        require_name(annotation["file_name"], f"{where}.file_name")
        require_list(annotation["segments_info"], f"{where}.segments_info")
    require_unique((image["id"] for image in content["images"]), f"{source}: image ids")
    require_unique((a["image_id"] for a in content["annotations"]), f"{source}: annotated image ids")
    require_unique((a["file_name"] for a in content["annotations"]), f"{source}: PNG names of annotations")
    images = {image["id"]: image for image in content["images"]}
    absent = [a["image_id"] for a in content["annotations"] if a["image_id"] not in images]
    if absent:
        raise ValueError(
            f"{source}: annotations name the image ids {few(absent)}, which are not among its images; "
            "add the images or remove the annotations."
        )
    return images


def _segments(segments: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, where: str) -> list[dict[str, Any]]:
    for position, segment in enumerate(segments):
        named = segment.get("id", "?") if isinstance(segment, Mapping) else f"number {position}"
        require_keys(segment, ("id", "category_id", "iscrowd"), f"{where}: segment {named!r:.40}", _FORMAT)
        if segment["iscrowd"] not in (0, 1):
            crowd = segment["iscrowd"]
            raise ValueError(f"{where}: iscrowd of segment {named!r:.40} must be 0 or 1, not {crowd!r:.80}.")
    outside = [f"{s['id']!r:.40}" for s in segments if not (type(s["id"]) is int and 0 < s["id"] <= MAX_ID)]
    if outside:
        raise ValueError(f"{where}: segment ids {few(outside)} are not integers in [1, {MAX_ID}].")
    require_unique((segment["id"] for segment in segments), f"{where}: segment ids")
    classes = to_contiguous((segment["category_id"] for segment in segments), vocabulary, where)
    return [
        {
            **segment,
            "category_id": category,
            "isthing": bool(vocabulary.isthing[category]),
            "iscrowd": bool(segment["iscrowd"]),
        }
        for segment, category in zip(segments, classes, strict=True)
    ]
