"""Annotation files in the COCO formats, read without trust: what is wrong with the file as such is a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from possam.data.checks import require_keys
from possam.data.coco_format import (
    FEDERATED_KEYS,
    INSTANCES,
    LVIS,
    PANOPTIC,
    check_category,
    check_image,
    check_instance,
    check_panoptic_annotation,
)
from possam.data.images import ImageFinder
from possam.utils.files import decode_text
from possam.vocabulary import Vocabulary

__all__ = ["Contents", "ImageEntry", "Png", "read_annotation_file", "summarize"]

_PARTS = ("images", "annotations", "categories")
# What files are that only have the name of a JSON, by their first bytes.
_DISGUISES = {
    b"PK\x03\x04": "is a zip archive; unpack it",
    b"\x1f\x8b": "is a gzip archive; unpack it",
    b"<": "is a web page, saved in place of the file; download it anew, logged in where the site asks for that",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file; run git lfs pull where it comes from",
}


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """Where an annotation file says that an image lies, and its (width, height)."""

    path: Path
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Png:
    """A panoptic PNG's name and the ids of the segments listed for it; `hidden` are those that need no pixel, and
    `stated` are each segment's area and box (x, y, width, height), None where the file does not state it."""

    name: str
    segments: tuple[int, ...]
    hidden: frozenset[int]
    stated: tuple[tuple[float | None, tuple[float, ...] | None], ...]


@dataclass(frozen=True)
class Contents:
    """The images of an annotation file by id, and the panoptic PNG of each where the file has them."""

    images: dict[Any, ImageEntry]
    panoptic: dict[Any, Png] = field(default_factory=dict)


def read_annotation_file(
    path: Path, kind: str, image_names: str, federated: bool = False
) -> tuple[dict[str, Any], str, list[str]]:
    """Read a file in the COCO format of `kind`, "panoptic" or "instances", which names images by `image_names`
    (`ImageFinder`).

    Returns:
        the content; "" or what makes the file unusable, and then the content is empty; and what is wrong with each
        entry that is not of the format. All entries of a usable file's "images", "annotations" and "categories" pass
        the checks of `possam.data.coco_format`, as in loading.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        return {}, f"cannot be read ({error.strerror})", []
    for start, what in _DISGUISES.items():
        if data.startswith(start):
            return {}, what, []
    try:
        text = decode_text(data)
        content = json.loads(text)
    except UnicodeDecodeError as error:
        return {}, f"is no text in UTF-8 ({error.reason} at byte {error.start:,} of {len(data):,})", []
    except json.JSONDecodeError as error:
        return {}, _broken(text, error), []
    except (ValueError, RecursionError) as error:  # of numbers too long, of brackets too deep
        return {}, f"is not valid JSON ({error})", []
    what = _no_lists(content, kind)
    if what:
        return {}, what, []
    faults = _entry_faults(content, kind, image_names, federated)
    if faults:
        return {}, f"has entries that are not in the COCO {kind} format", faults
    return content, "", []


def _broken(text: str, error: json.JSONDecodeError) -> str:
    end = text.rstrip()
    if not end:
        return "is empty"
    if not end.endswith("}"):
        return f"is cut off: it ends after {len(text):,} characters, with {end[-20:]!r}"
    return f"is not valid JSON ({error.msg} at line {error.lineno}, column {error.colno})"


def _no_lists(content: Any, kind: str) -> str:
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, but an object with the keys {sorted(_PARTS)} is expected"
    for part in _PARTS:
        if not isinstance(content.get(part), list):
            return f"has no list {part!r}: it is not in the COCO {kind} format (keys: {sorted(content)[:8]})"
    return ""


def _entry_faults(content: Mapping[str, Any], kind: str, image_names: str, federated: bool) -> list[str]:
    format = PANOPTIC if kind == "panoptic" else LVIS if federated else INSTANCES

    def image(entry: Any, position: int) -> None:
        # Images without LVIS's keys are a problem of their own, `check_federated`.
        bare = format == LVIS and isinstance(entry, Mapping) and any(key not in entry for key in FEDERATED_KEYS)
        check_image(entry, position, "", format=INSTANCES if bare else format, image_names=image_names)

    def annotation(entry: Any, position: int) -> None:
        if kind == "panoptic":
            check_panoptic_annotation(entry, position, "")
        else:
            check_instance(entry, position, "", format=format)
            require_keys(entry, ("id",), f"annotations[{position}]", format)

    def category(entry: Any, position: int) -> None:
        check_category(entry, position, "", format=format)

    faults = []
    checks: tuple[Callable[[Any, int], None], ...] = (image, annotation, category)
    for part, check in zip(_PARTS, checks, strict=True):
        for position, entry in enumerate(content[part]):
            try:
                check(entry, position)
            except ValueError as error:
                faults.append(str(error).rstrip("."))
    return faults


def summarize(content: Mapping[str, Any], finder: ImageFinder, vocabulary: Vocabulary) -> Contents:
    """What the checks of files need of a content; the rest, gigabytes for the largest datasets, can be let go."""
    stuff = {category.dataset_id for category in vocabulary.categories if not category.isthing}
    panoptic = {a["image_id"]: a for a in content["annotations"] if "segments_info" in a}
    images = {
        # A panoptic file names the images by its PNGs in some datasets, and one without a PNG has no name there.
        image["id"]: ImageEntry(
            Path(finder.path(image, panoptic.get(image["id"]))), (int(image["width"]), int(image["height"]))
        )
        for image in content["images"]
        if finder.names != "png" or image["id"] in panoptic
    }
    pngs = {
        image_id: Png(
            annotation["file_name"],
            segments=tuple(segment["id"] for segment in annotation["segments_info"]),
            # As in `possam.data.annotations.read_segments`: instances may hide stuff wholly.
            hidden=frozenset(s["id"] for s in annotation["segments_info"] if s["category_id"] in stuff),
            stated=tuple(
                (segment.get("area"), tuple(segment["bbox"]) if "bbox" in segment else None)
                for segment in annotation["segments_info"]
            ),
        )
        for image_id, annotation in panoptic.items()
        if image_id in images
    }
    return Contents(images, pngs)
