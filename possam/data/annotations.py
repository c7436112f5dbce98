"""What a record says of its image, read from its files: segments, a map of classes, or instances.

Shapes: H×W the image as it is annotated, S segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_coder

from possam.data.checks import image_size, pixel_size
from possam.data.id_maps import check_ids, read_id_map
from possam.data.pictures import decoding
from possam.data.run_lengths import to_run_lengths
from possam.data.unnamed import read_unnamed
from possam.utils.messages import few

__all__ = ["UNLABELED", "read_instances", "read_label_map", "read_segments"]

UNLABELED = -1
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
_BYTE = 256


def read_segments(record: Mapping[str, Any]) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Read a record's panoptic PNG.

    Returns:
        H×W int64: 0 for void, ``i + 1`` for the segment i; and the record's S ``segments_info``. Stuff may have no
        pixel: the field's ADE20K lists what lies wholly under instances.

    Raises:
        FileNotFoundError: there is no such PNG.
        UnreadableFile: the PNG does not decode.
        ValueError: the record has no panoptic annotation, its size is not that of the image, or its ids are not those
            of the JSON. All name the file.
    """
    _require(record, "pan_seg_file_name", "panoptic annotation")
    path, segments = record["pan_seg_file_name"], record["segments_info"]
    id_map = read_id_map(path, check_size=lambda size: _check_size(f"panoptic PNG {path}", size, record))
    stuff = {segment["id"] for segment in segments if not segment.get("isthing", True)}
    return check_ids(id_map, [segment["id"] for segment in segments], source=path, hidden=stuff), segments


def read_label_map(record: Mapping[str, Any], *, ignore_label: int, num_classes: int) -> NDArray[np.int64]:
    """Read the class of every pixel: from the record's label map if it has one, else from its panoptic PNG.

    Args:
        record: a dataset's dict.
        ignore_label: value of a label map's pixels that have no class.
        num_classes: K; every other value of a label map must be in [0, K).
    Returns:
        H×W int64: the contiguous class, −1 where there is none. Crowds have their class.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the record has neither annotation, or the file is not a label map of these classes; names the file
            and the values that are none.
    """
    if "sem_seg_file_name" not in record:
        _require(record, "pan_seg_file_name", "semantic or panoptic annotation")
        index, segments = read_segments(record)
        return np.array([UNLABELED, *(segment["category_id"] for segment in segments)], dtype=np.int64)[index]
    path = record["sem_seg_file_name"]
    labels = _read_one_channel(record, wide=ignore_label >= _BYTE)
    ignored = labels == ignore_label
    wrong = np.unique(labels[~ignored & ((labels < 0) | (labels >= num_classes))])
    if len(wrong):
        raise ValueError(
            f"label map {path} has the values {few(wrong.tolist())}, which are neither classes (0 … {num_classes - 1}) "
            f"nor the ignore label {ignore_label}. Label maps hold contiguous classes, as `possam data prepare` "
            "writes them; official files and other scripts may hold other numbers, as ADE20K's annotations/ hold "
            "1 … 150 with 0 for other (run: possam data prepare ade20k_semantic)."
        )
    labels[ignored] = UNLABELED
    return labels


def read_instances(record: Mapping[str, Any], *, isthing: Sequence[bool]) -> list[dict[str, Any]]:
    """The instances of an image: of the record's ``annotations`` if it has them, of its JSON of masks without names
    (`possam.data.unnamed`), or else the panoptic PNG's things.

    Args:
        record: a dataset's dict.
        isthing: whether each contiguous class is a thing.
    Returns:
        dicts with ``category_id`` (contiguous; -1 without a name), ``iscrowd`` (0 or 1), ``area`` (in pixels; as the
        JSON says, if it does) and ``segmentation``, a compressed run-length mask {"size": [H, W], "counts": bytes}.
        Masks of ``annotations`` may overlap.

    Raises:
        FileNotFoundError: there is no such PNG.
        ValueError: the record has neither annotation, or a mask is none or not the image's; names the image.
    """
    if "annotations" in record:
        return [
            {
                "category_id": annotation["category_id"],
                "iscrowd": int(annotation["iscrowd"]),
                "area": annotation["area"],
                "segmentation": to_run_lengths(
                    annotation["segmentation"],
                    image_size(record),
                    source=f"image {record['image_id']!r} ({record['file_name']})",
                ),
            }
            for annotation in record["annotations"]
        ]
    if "masks_file_name" in record:
        return read_unnamed(record)
    _require(record, "pan_seg_file_name", "instance or panoptic annotation")
    index, segments = read_segments(record)
    areas = np.bincount(index.ravel(), minlength=len(segments) + 1)
    return [
        {
            "category_id": segment["category_id"],
            "iscrowd": int(segment["iscrowd"]),
            "area": int(areas[place]),
            "segmentation": mask_coder.encode(np.asfortranarray(index == place, dtype=np.uint8)),
        }
        for place, segment in enumerate(segments, start=1)
        if isthing[segment["category_id"]]
    ]


def _read_one_channel(record: Mapping[str, Any], *, wide: bool) -> NDArray[np.int64]:
    """The values of a record's label map, H×W int64; of a palette picture the indices, not the colors."""
    path = record["sem_seg_file_name"]
    what = {"what": f"label map {path}", "missing": "prepare the dataset again", "fix": "prepare the dataset again"}
    with decoding(**what):
        picture = Image.open(path)
    with picture:
        _check_size(f"label map {path}", (picture.height, picture.width), record)
        with decoding(**what):
            picture.load()
            mode, values = picture.mode, np.asarray(picture)
    if mode not in _ONE_CHANNEL:
        raise ValueError(
            f"label map {path} has mode {mode}, but one channel of integers is expected, whose values are classes; "
            "prepare the dataset again."
        )
    if wide and values.dtype.itemsize < 2:
        raise ValueError(
            f"label map {path} has 8 bits a pixel, but 16 are expected: the ignore label does not fit into 8; "
            "prepare the dataset again."
        )
    return values.astype(np.int64)


def _require(record: Mapping[str, Any], key: str, what: str) -> None:
    if key not in record:
        raise ValueError(
            f"image {record['file_name']} has no {what} (its record has {sorted(record)}); use a dataset that has one."
        )


def _check_size(what: str, shape: Sequence[int], record: Mapping[str, Any]) -> None:
    size = image_size(record)
    if tuple(shape) != size:
        raise ValueError(
            f"{what} is {pixel_size(shape)}, but its image {record['file_name']} is {pixel_size(size)}; "
            "the two must have the same size."
        )
