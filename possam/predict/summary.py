"""Summaries of predictions as lines of text and as dicts, and parts that results have in common."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from possam.utils.files import read_json
from possam.vocabulary import Vocabulary

__all__ = ["describe_found", "found_line", "png_bytes", "read_found"]

_SHOWN_SIDE = 1280  # pixels of the longer side of a picture in a notebook
_NAMES = 6  # listed in a repr


def describe_found(
    image: NDArray[np.uint8], found: Sequence[Mapping[str, Any]], file_name: str, what: str = "segment"
) -> str:
    """One line: the file, its size as width×height, how many were found, and their names with counts.

    Args:
        image: H×W×3.
        found: dicts with ``label``.
        what: the kind that is counted.
    """
    counts: dict[str, int] = {}
    for one in found:
        counts[one["label"]] = counts.get(one["label"], 0) + 1
    names = [f"{label} ×{count}" if count > 1 else label for label, count in counts.items()]
    more = [f"… {len(names) - _NAMES} more names"] if len(names) > _NAMES else []
    listed = ": " + ", ".join(names[:_NAMES] + more) if names else ""
    number = f"{len(found) or 'no'} {what}{'' if len(found) == 1 else 's'}"
    start = f"{file_name!r}, " if file_name else ""
    return f"{start}{image.shape[1]}×{image.shape[0]}, {number}{listed}"


def found_line(record: Mapping[str, Any]) -> str:
    """One line of `possam segment`: an image, and each name with its count, its share of the pixels and its best score,
    the largest first.

    Args:
        record: of `read_found`.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for one in record["found"]:
        groups.setdefault(one["label"], []).append(one)
    shares = {
        label: sum(one["area"] for one in group) / (record["width"] * record["height"])
        for label, group in groups.items()
    }
    parts = [
        f"{label} ×{len(groups[label])} {100 * shares[label]:.1f} % {max(one['score'] for one in groups[label]):.2f}"
        for label in sorted(groups, key=lambda label: -shares[label])
    ]
    return f"{record['name']}: {', '.join(parts) or 'nothing found'}"


def read_found(path: str | Path, vocabulary: Vocabulary) -> Iterator[dict[str, Any]]:
    """Read the segments or masks of each image from the predictions that `possam.predict.batch` wrote.

    Args:
        path: panoptic.json or instances.json.
        vocabulary: which the predictions were made with.

    Yields:
        A dict an image: ``image`` (its file, or the frame of a video), ``name`` (of its results), ``width`` and
        ``height`` in pixels, and ``found``: a dict each with ``label`` (display name), ``isthing``, ``score`` in
        [0, 1], ``area`` in pixels, ``bbox`` [x, y, width, height] in pixels, and of a segment its ``id``.
    """
    content = read_json(path)
    classes = {category.dataset_id: place for place, category in enumerate(vocabulary.categories)}
    found: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        for one in annotation.get("segments_info", [annotation]):
            place = classes[one["category_id"]]
            named = {"label": vocabulary.display_names[place], "isthing": vocabulary.isthing[place]}
            kept = {key: one[key] for key in ("id", "score", "area", "bbox") if key in one}
            found[annotation["image_id"]].append(named | kept)
    for image in content["images"]:
        size = {"width": image["width"], "height": image["height"]}
        yield {"image": image["file_name"], "name": image["id"], **size, "found": found[image["id"]]}


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as PNG, at most 1280 pixels a side."""
    shown = picture.copy()
    shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return buffer.getvalue()
