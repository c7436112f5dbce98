"""Check datasets, their files, tasks and class names, before work starts: afterwards a mistake would cost days."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from possam.d2.config import CfgNode
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.d2.utils import comm
from possam.data.doctor import Problem, examine_records
from possam.data.doctor.records import UNREADABLE
from possam.engine.datasets import check_test_queries
from possam.engine.prompted import check_detections
from possam.engine.unreadable import too_many
from possam.evaluation import GroundTruth, scored_tasks
from possam.models import OpenVocabularySegmenter
from possam.utils.files import read_json, write_json

__all__ = ["check_class_names", "check_data", "check_tasks", "check_test_sets"]

logger = logging.getLogger(__name__)

Record = Mapping[str, Any]
_FILES = ("file_name", "pan_seg_file_name", "sem_seg_file_name")
_SHOWN = 5


def check_tasks(cfg: CfgNode) -> None:
    """Raise ValueError where a dataset of `DATASETS.TEST` cannot be scored on any of `TEST.TASKS`; reads no files."""
    for name in cfg.DATASETS.TEST:
        scored_tasks(GroundTruth(name), cfg.TEST.TASKS)


def check_test_sets(cfg: CfgNode) -> None:
    """Check the tasks, records and files of every dataset of `DATASETS.TEST`, as `DATASETS.CHECK` says.

    Raises:
        ValueError: a dataset has no image or cannot be scored on any of `TEST.TASKS`, or as `check_data` or
            `check_detections`.
        FileNotFoundError: a file is not there.
    """
    check_tasks(cfg)
    check_detections(cfg)
    for name in cfg.DATASETS.TEST:
        records = DatasetCatalog.get(name)
        if not records:
            raise ValueError(f"DATASETS.TEST has {name!r}, which has no images; prepare it again or leave it out.")
        if name in cfg.DATASETS.TRAIN:
            logger.warning("%s is in DATASETS.TRAIN and DATASETS.TEST: its scores are those of training images.", name)
        check_test_queries(cfg, name, records)
        check_data(cfg, [name], records, limit=0)


def check_class_names(cfg: CfgNode, model: OpenVocabularySegmenter) -> None:
    """Check that the class names of all datasets of training and test fit into CLIP's context.

    Raises:
        ValueError: a name is too long; the message names the dataset and shows the text.
    """
    vocabularies = {"The training vocabulary": model.train_vocabulary}
    named = [("TRAIN", name) for name in cfg.DATASETS.TRAIN[1:]] + [("TEST", name) for name in cfg.DATASETS.TEST]
    vocabularies |= {f"DATASETS.{key}, {name}": MetadataCatalog.get(name).vocabulary for key, name in named}
    for source, vocabulary in vocabularies.items():
        try:
            model.text_bank.check(vocabulary)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error


def check_data(cfg: CfgNode, names: Sequence[str], records: Sequence[Record], *, limit: float) -> None:
    """Compare a dataset's files with its records, as `DATASETS.CHECK` says.

    The main process looks, and all others wait and fail with it; files on other machines' own disks are not seen. What
    was found is kept in the folder `checked` beside `INPUT.FEATURE_CACHE_DIR`, so that files that have not changed
    since (name, size, time) are not opened again. Files that do not decode are warnings, up to the limit.

    Args:
        names: the datasets, which share their classes and their ignore label.
        records: their dicts.
        limit: fraction of the images that may be unreadable, as `DATALOADER.MAX_UNREADABLE`.

    Raises:
        ValueError: sizes or ids disagree, or too many files do not decode; names files and ids.
        FileNotFoundError: a file is not there.
    """
    if cfg.DATASETS.CHECK == "none":
        return
    failure: tuple[type[Exception], str] | None = None
    if comm.is_main_process():
        try:
            _check(cfg, names, records, limit)
        except (ValueError, OSError) as error:
            failure = (FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError), str(error)
    failure = comm.all_gather(failure)[0]
    if failure:
        kind, message = failure
        raise kind(message)


def _check(cfg: CfgNode, names: Sequence[str], records: Sequence[Record], limit: float) -> None:
    metadata = MetadataCatalog.get(names[0])
    classes, ignore_label, full = len(metadata.vocabulary), metadata.ignore_label, cfg.DATASETS.CHECK == "full"
    stamp = Path(cfg.INPUT.FEATURE_CACHE_DIR).parent / "checked" / f"{_signature(records, classes, ignore_label)}.json"
    unreadable = _remembered(stamp, full)
    if unreadable is None:
        with _progress(f"Files of {', '.join(names)}") as progress:
            problems = examine_records(
                records,
                classes=classes,
                ignore_label=ignore_label,
                full=full,
                processes=min(8, os.cpu_count() or 1),
                progress=progress,
            )
        if wrong := [problem for problem in problems if problem.kind != UNREADABLE]:
            raise ValueError(f"{', '.join(names)}: files and annotations disagree.\n{_lines(wrong)}")
        unreadable = {"count": sum(problem.count for problem in problems), "files": _lines(problems)}
        _remember(stamp, full, unreadable)
    count = unreadable["count"]
    if too_many(count, len(records), limit):
        raise ValueError(
            f"{', '.join(names)}: {count:,} files of {len(records):,} images cannot be read, more than {limit:g} of "
            f"them.\n{unreadable['files']}"
        )
    if count:
        files = f"{count} file" + "s" * (count > 1)
        logger.warning("%s: %s cannot be read.\n%s", ", ".join(names), files, unreadable["files"])


def _lines(problems: Sequence[Problem]) -> str:
    shown = [f"  {problem.where}: {problem} → {problem.fix}" for problem in problems[:_SHOWN]]
    return "\n".join([*shown, f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else shown)


def _signature(records: Sequence[Record], classes: int, ignore_label: int) -> str:
    """Digest of what is compared: the records' sizes and ids, and size and time of each file."""
    digest = hashlib.sha256(f"{classes} {ignore_label}".encode())
    for record in records:
        files = [record[key] for key in _FILES if key in record]
        segments = [(segment["id"], segment.get("isthing")) for segment in record.get("segments_info", ())]
        masks = [one.get("segmentation") for one in record.get("annotations", ())]
        sizes = [mask.get("size") for mask in masks if isinstance(mask, Mapping)]
        digest.update(repr((record["height"], record["width"], files, segments, sizes)).encode())
        for file in files:
            try:
                status = os.stat(file)
            except FileNotFoundError:
                raise FileNotFoundError(f"{file} does not exist; prepare the dataset again.") from None
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _remembered(stamp: Path, full: bool) -> dict[str, Any] | None:
    """What an earlier check found, if it looked at no less."""
    try:
        found = read_json(stamp)
        return found["unreadable"] if found["full"] or not full else None
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _remember(stamp: Path, full: bool, unreadable: Mapping[str, Any]) -> None:
    try:
        write_json(stamp, {"full": full, "unreadable": unreadable})
    except OSError as error:
        logger.warning("The next start will look at all files again: %s cannot be written (%s).", stamp, error)


@contextmanager
def _progress(label: str) -> Iterator[Any]:
    err = Console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
