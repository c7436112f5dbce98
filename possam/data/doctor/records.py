"""The files of a dataset's records: whether they will do for training, and where not, why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from possam.data.checks import image_size
from possam.data.datasets.spec import SemanticFiles
from possam.data.doctor.examination import Progress, examine_pictures
from possam.data.doctor.pictures import TRAINING_CONTENT_CHECKS, TRAINING_HEADER_CHECKS, Rules
from possam.data.doctor.problem import Problem, gather
from possam.data.doctor.tree import Sample

__all__ = ["UNREADABLE", "examine_records"]

UNREADABLE = "decoding"
_FIX_IMAGE = "copy or download it again"
_FIX_ANNOTATION = "take images and annotation from the same release or export"
# From this many on, decoding takes longer than starting processes.
_WORTH_PROCESSES = 2000


def examine_records(
    records: Sequence[Mapping[str, Any]],
    *,
    classes: int,
    ignore_label: int,
    full: bool,
    processes: int = 1,
    progress: Progress | None = None,
) -> list[Problem]:
    """Look for what training would stop at, or skip.

    Of every picture the header and the end are looked at: sizes must be those of the record. With `full` annotations
    are decoded, too: panoptic PNGs hold the ids of the record, label maps its classes, run lengths have its size.

    Args:
        records: a dataset's dicts, whose files exist.
        classes: how many there are; ignore_label: value of unlabeled pixels in label maps.
        processes: how many read pictures at a time.
        progress: called with the images that are done and that there are.
    Returns:
        problems of one kind joined; those of files that do not decode have the kind `UNREADABLE`.
    """
    rules = Rules(
        semantic=SemanticFiles(
            folder="", ignore_label=ignore_label, dtype="any width" if ignore_label < 256 else "uint16"
        ),
        classes=classes,
        fix_all=_FIX_IMAGE,
        fix_wrong=_FIX_ANNOTATION,
    )
    checks = TRAINING_CONTENT_CHECKS if full else TRAINING_HEADER_CHECKS
    problems = examine_pictures(
        [([_sample(record) for record in records], checks)],
        rules,
        processes=processes if full and len(records) > _WORTH_PROCESSES else 1,
        progress=progress,
    )
    return gather([*problems, *_run_lengths(records)])


def _sample(record: Mapping[str, Any]) -> Sample:
    """What the mapper reads of a record: a panoptic annotation comes before a label map."""
    height, width = image_size(record)
    png, label_map = record.get("pan_seg_file_name"), record.get("sem_seg_file_name")
    segments = record.get("segments_info", ())
    return Sample(
        image=Path(record["file_name"]),
        size=(width, height),
        label_map=Path(label_map) if label_map else None,
        panoptic=Path(png) if png else None,
        segments=tuple(segment["id"] for segment in segments),
        # As in `possam.data.annotations.read_segments`: instances may hide stuff wholly.
        hidden=frozenset(segment["id"] for segment in segments if not segment.get("isthing", True)),
    )


def _run_lengths(records: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    for record in records:
        height, width = image_size(record)
        masks = (one.get("segmentation") for one in record.get("annotations", ()))
        sizes = (mask.get("size") for mask in masks if isinstance(mask, Mapping))
        wrong = [size for size in sizes if not isinstance(size, list | tuple) or list(size) != [height, width]]
        if wrong:
            path = Path(record["file_name"])
            yield Problem(
                kind="sizes",
                where=str(path),
                what="run-length masks are of another size [height, width] than their image",
                fix=_FIX_ANNOTATION,
                details=(f"{path.name}: {wrong[0]}, expected {[height, width]}",),
            )
