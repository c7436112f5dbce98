"""Checks of the entries of annotation files in the COCO formats, the same for loading, evaluation and the doctor.

Each raises a ValueError that names the entry, after `prefix`, which names the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from possam.data.checks import (
    is_number,
    require_id,
    require_keys,
    require_list,
    require_name,
    require_size,
    require_unique,
)
from possam.data.id_maps import MAX_ID
from possam.utils.messages import few
from possam.vocabulary import Vocabulary, fold_name

__all__ = [
    "FEDERATED_KEYS",
    "INSTANCES",
    "LVIS",
    "PANOPTIC",
    "check_area",
    "check_category",
    "check_image",
    "check_instance",
    "check_listed",
    "check_panoptic_annotation",
    "misnamed_categories",
    "type_hint",
]

PANOPTIC, INSTANCES, LVIS = "COCO panoptic", "COCO instance", "LVIS"
FEDERATED_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")
_NAME_KEYS = ("file_name", "coco_url")
_SEGMENT_KEYS = ("id", "category_id", "iscrowd")
_INSTANCE_KEYS = ("image_id", "category_id", "segmentation", "bbox", "area")


def check_image(image: Any, position: int, prefix: str, *, format: str, image_names: str = "file_name") -> None:
    """Check an entry of ``images``.

    Args:
        format: `PANOPTIC`, `INSTANCES` or `LVIS`.
        image_names: how the file names images (`possam.data.images.ImageFinder`).
    """
    where = f"{prefix}images[{position}]"
    federated = FEDERATED_KEYS if format == LVIS else ()
    names = (image_names,) if image_names in _NAME_KEYS else ()
    require_keys(image, ("id", "height", "width", *names, *federated), where, format)
    require_id(image["id"], f"{where}.id")
    require_size(image, where)
    for key in _NAME_KEYS:
        if key in image:
            require_name(image[key], f"{where}.{key}")
    for key in federated:
        require_list(image[key], f"{where}.{key}")
        for category in image[key]:
            _require_category(category, where, key)


def check_category(category: Any, position: int, prefix: str, *, format: str) -> None:
    """Check an entry of ``categories``; those of the panoptic format say what is a thing."""
    where = f"{prefix}categories[{position}]"
    require_keys(category, ("id", "name"), where, format)
    if format == PANOPTIC and "isthing" not in category:
        raise ValueError(
            f"{where} ({category['name']!r:.80}) has no isthing, which the {format} format requires: 1 for things, 0 "
            "for stuff."
        )
    _require_category(category["id"], where, "id")
    if not isinstance(category["name"], str):
        raise ValueError(f"{where}.name must be a string, but is {category['name']!r:.80}.")
    if "isthing" in category and category["isthing"] not in (0, 1):
        raise ValueError(f"{where}.isthing must be 1 (thing) or 0 (stuff), but is {category['isthing']!r:.80}.")


def check_panoptic_annotation(annotation: Any, position: int, prefix: str, *, predicted: bool = False) -> None:
    """Check an entry of a panoptic file's ``annotations`` with its segments.

    Args:
        predicted: it is a prediction, of which only what scoring needs is looked at.
    """
    where = f"{prefix}annotations[{position}]"
    require_keys(annotation, ("image_id", "file_name", "segments_info"), where, PANOPTIC)
    require_id(annotation["image_id"], f"{where}.image_id")
    require_name(annotation["file_name"], f"{where}.file_name")
    require_list(annotation["segments_info"], f"{where}.segments_info")
    _check_segments(annotation["segments_info"], f"{prefix}image {annotation['image_id']!r:.80}", predicted)


def _check_segments(segments: Sequence[Any], where: str, predicted: bool) -> None:
    for position, segment in enumerate(segments):
        named = segment.get("id", f"number {position}") if isinstance(segment, Mapping) else f"number {position}"
        what = f"{where}: segment {named!r:.40}"
        require_keys(segment, _SEGMENT_KEYS[:2] if predicted else _SEGMENT_KEYS, what, PANOPTIC)
        _require_category(segment["category_id"], what, "category_id")
        if not predicted:
            _require_crowd(segment["iscrowd"], what, "iscrowd")
            if "area" in segment:
                _require_area(segment["area"], what, "area")
            if "bbox" in segment:
                _require_box(segment["bbox"], what, "bbox")
    outside = [f"{s['id']!r:.40}" for s in segments if not (type(s["id"]) is int and 0 < s["id"] <= MAX_ID)]
    if outside:
        raise ValueError(f"{where}: segment ids {few(outside)} are not integers in [1, {MAX_ID}].")
    require_unique((segment["id"] for segment in segments), f"{where}: segment ids")


def check_instance(annotation: Any, position: int, prefix: str, *, format: str) -> None:
    """Check an entry of an instance file's ``annotations``; its mask is left to `possam.data.run_lengths`."""
    where = f"{prefix}annotations[{position}]"
    require_keys(annotation, _INSTANCE_KEYS, where, format)
    for key in ("image_id", *(("id",) if "id" in annotation else ())):
        require_id(annotation[key], f"{where}.{key}")
    _require_category(annotation["category_id"], where, "category_id")
    _require_box(annotation["bbox"], where, "bbox")
    _require_area(annotation["area"], where, "area")
    _require_crowd(annotation.get("iscrowd", 0), where, "iscrowd")


def misnamed_categories(categories: Iterable[Mapping[str, Any]], vocabulary: Vocabulary) -> list[str]:
    """A sentence for each category whose name means another class of the vocabulary than its id."""
    owner = {
        fold_name(name): category.dataset_id
        for category in vocabulary.categories
        for name in (*category.names, category.dataset_name)
    }
    expected = vocabulary.contiguous_id
    return [
        f"id {c['id']} is {c['name']!r:.80}, expected {vocabulary.display_names[expected[c['id']]]!r}"
        for c in categories
        if c["id"] in expected and owner.get(fold_name(c["name"]), c["id"]) != c["id"]
    ]


def check_area(area: float, size: tuple[int, int], where: str) -> None:
    """ValueError where a stated area is more than that of the image, whose size is (height, width)."""
    if area > size[0] * size[1]:
        raise ValueError(
            f"{where}: the area {area!r:.40} is more than the {size[0] * size[1]} pixels of the image; areas are in "
            "pixels."
        )


def check_listed(ids: Iterable[Any], known: Collection[Any], source: str) -> None:
    """ValueError where annotations name image ids that are not among the listed ones."""
    absent = [image_id for image_id in ids if image_id not in known]
    if absent:
        raise ValueError(
            f"{source}: annotations name the image ids {few([repr(image_id) for image_id in absent])}, which are not "
            f"among its images; add the images or remove the annotations.{type_hint(absent, known)}"
        )


def type_hint(absent: Iterable[Any], known: Iterable[Any]) -> str:
    """A sentence, with a blank before it, where ids are the same as strings and numbers; "" otherwise."""
    texts = {str(image_id): image_id for image_id in known}
    for image_id in absent:
        if str(image_id) in texts:
            return f" {image_id!r} and {texts[str(image_id)]!r} differ: write ids as numbers everywhere, or as strings."
    return ""


def _require_category(value: Any, where: str, key: str) -> None:
    if not is_number(value) or value != int(value):
        raise ValueError(f"{where}: {key} must be a category's id, an integer, but is {value!r:.80}.")


def _require_crowd(value: Any, where: str, key: str) -> None:
    if value not in (0, 1):
        raise ValueError(f"{where}: {key} must be 0 or 1, but is {value!r:.80}.")


def _require_area(value: Any, where: str, key: str) -> None:
    if not is_number(value) or value < 0:
        raise ValueError(f"{where}: {key} must be a number of pixels, but is {value!r:.80}.")


def _require_box(value: Any, where: str, key: str) -> None:
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        raise ValueError(
            f"{where}: {key} must be four numbers, x, y, width and height in pixels, but is {value!r:.80}."
        )
