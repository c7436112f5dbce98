"""Annotation files in the COCO formats, read without trust: what is wrong with the file as such is a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from possam.data.images import ImageFinder
from possam.vocabulary import Vocabulary

__all__ = ["Contents", "ImageEntry", "Png", "read_annotation_file", "summarise"]

_KEYS = {
    "panoptic": {
        "images": ("id", "height", "width"),
        "annotations": ("image_id", "file_name", "segments_info"),
        "categories": ("id", "name"),
    },
    "instances": {
        "images": ("id", "height", "width"),
        "annotations": ("id", "image_id", "category_id", "bbox", "area", "segmentation"),
        "categories": ("id", "name"),
    },
}
_SEGMENT_KEYS = ("id", "category_id", "iscrowd")
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
    """A panoptic PNG's name and the ids of the segments listed for it; `hidden` are those that need no pixel."""

    name: str
    segments: tuple[int, ...]
    hidden: frozenset[int]


@dataclass(frozen=True)
class Contents:
    """The images of an annotation file by id, and the panoptic PNG of each where the file has them."""

    images: dict[Any, ImageEntry]
    panoptic: dict[Any, Png] = field(default_factory=dict)


def read_annotation_file(path: Path, kind: str, image_names: str) -> tuple[dict[str, Any], str]:
    """Read a file in the COCO format of `kind`, "panoptic" or "instances", which names images by `image_names`
    (`ImageFinder`).

    Returns:
        the content, and "" or what makes the file unusable; then the content is empty. All entries of "images",
        "annotations" and "categories" are objects with the keys of the format.
    """
    data = path.read_bytes()
    for start, what in _DISGUISES.items():
        if data.startswith(start):
            return {}, what
    try:
        content = json.loads(data)
    except UnicodeDecodeError as error:
        return {}, f"is no text in UTF-8 ({error.reason} at byte {error.start:,} of {len(data):,})"
    except json.JSONDecodeError as error:
        return {}, _broken(data, error)
    what = _format_fault(content, kind, (image_names,) if image_names in ("file_name", "coco_url") else ())
    return ({}, what) if what else (content, "")


def _broken(data: bytes, error: json.JSONDecodeError) -> str:
    end = data.rstrip()
    if not end:
        return "is empty"
    if not end.endswith(b"}"):
        return f"is cut off: it ends after {len(data):,} bytes, with {end[-20:].decode(errors='replace')!r}"
    return f"is not valid JSON ({error.msg} at line {error.lineno}, column {error.colno})"


def _format_fault(content: Any, kind: str, names: Sequence[str]) -> str:
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, but an object with the keys {sorted(_KEYS[kind])} is expected"
    for part, keys in _KEYS[kind].items():
        if not isinstance(content.get(part), list):
            return f"has no list {part!r}: it is not in the COCO {kind} format (keys: {sorted(content)[:8]})"
        for position, entry in enumerate(content[part]):
            fault = _entry_fault(entry, (*keys, *names) if part == "images" else keys)
            if fault:
                return f"{fault} in {part}[{position}]: it is not in the COCO {kind} format"
            if part == "annotations" and kind == "panoptic":
                for segment in entry["segments_info"]:
                    fault = _entry_fault(segment, _SEGMENT_KEYS)
                    if fault:
                        return f"{fault} in a segment of {part}[{position}]: it is not in the COCO panoptic format"
    return ""


def _entry_fault(entry: Any, keys: tuple[str, ...]) -> str:
    if not isinstance(entry, Mapping):
        return f"has {entry!r:.40} in place of an object"
    missing = [key for key in keys if key not in entry]
    return f"lacks {missing}" if missing else ""


def summarise(content: Mapping[str, Any], finder: ImageFinder, vocabulary: Vocabulary) -> Contents:
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
        )
        for image_id, annotation in panoptic.items()
        if image_id in images
    }
    return Contents(images, pngs)
