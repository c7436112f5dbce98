"""Files through reading, network, naming and writing, in one process or as the share of one of several."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from numpy.typing import NDArray

from possam.d2.utils import comm
from possam.engine.run_folder import LEASE, check_shared, exclusive
from possam.predict.journal import Journal, key_of, stamp_of
from possam.predict.missing import MissingWord
from possam.predict.pipeline import by_size, finish_beside, read_ahead, workers_pool
from possam.predict.sources import Frame, Source, as_text, distinct_sources, read_frames
from possam.utils.files import dump_json

__all__ = ["FAILURES", "Outcome", "Stages", "run_stages", "sentence"]

logger = logging.getLogger(__name__)

FAILURES = (ValueError, OSError, MemoryError, torch.OutOfMemoryError)
"""Errors of one image, after which the next one is taken."""

_PATIENCE = timedelta(days=30)  # of a process that is done for the others

R = TypeVar("R")


@dataclass
class Outcome:
    """Result of a run.

    Attributes:
        json: of all predictions.
        images: how many it holds.
        resumed: how many of them are of an earlier run.
        failures: error messages, by file or by frame of one.
        missing: the words that were found in no image (`missing_in_both`); None where that is not known.
        nothing: why the first few images of this process have no mask, a sentence each (`PromptedResult.nothing`).
    """

    json: Path
    images: int = 0
    resumed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    missing: tuple[MissingWord, ...] | None = None
    nothing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Steps that process an image, H×W×3 uint8 RGB. All but `encode` may be called in several threads at a time.

    Attributes:
        kind: "panoptic" or "instances", the name of the JSON.
        prepare: makes the network's input of an image.
        size: of such an input; those of one size go through the network together.
        encode: the network, for inputs of one size.
        finish: names what `encode` gave for a frame and writes it; returns the annotations of the JSON, and what draws
            the overlay to a path.
    """

    kind: str
    prepare: Callable[[NDArray[Any]], Any]
    size: Callable[[Any], Hashable]
    encode: Callable[[list[Any]], Sequence[Any]]
    finish: Callable[[Frame, Any], tuple[list[dict[str, Any]], Callable[[Path], None]]]


def run_stages(
    stages: Stages,
    sources: Sequence[Source],
    folder: Path,
    *,
    settings: Mapping[str, Any],
    categories: list[dict[str, Any]],
    every: int,
    progress: Callable[[int, int], None] | None,
    batch_size: int,
    workers: int,
    overwrite: bool,
) -> Outcome:
    """Run the stages on files, without those that the journal of `folder` has with these settings.

    In a distributed run all processes call this with the same arguments; each takes its share of the files, the first
    one writes the JSON, and all return the whole outcome. For the arguments and errors see `segment_files`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but at least 1 image goes through the network at a time.")
    if workers < 0:
        raise ValueError(f"workers is {workers}, but must be at least 0; 0 does everything in one thread.")
    sources = distinct_sources(sources)
    for part in ("overlay", "panoptic") if stages.kind == "panoptic" else ("overlay",):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with exclusive(folder, patience=LEASE, option="output"):
        check_shared(folder, option="output")
        _check_agreement(sources, settings)
        alone = comm.get_world_size() == 1
        group = None if alone else dist.new_group(backend="gloo", timeout=_PATIENCE)
        journal = Journal(folder, stages.kind, comm.get_rank())
        before = _in_main_process(lambda: journal.begin(settings, sources, overwrite=overwrite), group)
        journal.open()
        job = _Job(stages, journal, sources, every)
        try:
            job.run(progress, batch_size=batch_size, workers=workers)
        except BaseException:
            journal.close()
            if alone:  # others may still be writing; a later run goes on
                journal.merge(sources, categories)
            raise
        journal.close()
        shares = comm.all_gather((job.added, job.failures), group)
        images = _in_main_process(lambda: journal.merge(sources, categories), group)
    if images != (added := before + sum(added for added, _ in shares)):
        raise OSError(
            f"{journal.json} has {images} images, but {added} were written: records were lost on the disk, or another "
            "program has changed the journal. Run it again; what is missing is done then."
        )
    failures = sorted((number, place, reason) for _, found in shares for (number, place), reason in found.items())
    return Outcome(journal.json, images, before, {place: reason for _, place, reason in failures})


def _check_agreement(sources: Sequence[Source], settings: Mapping[str, Any]) -> None:
    """Check that all processes were given the same. Raises ValueError, in all of them."""
    content = [settings, [(key_of(source), as_text(source.path.as_posix())) for source in sources]]
    given = comm.all_gather((hashlib.sha256(dump_json(content)).hexdigest(), len(sources)))
    for rank, (digest, count) in enumerate(given):
        if digest != given[0][0]:
            raise ValueError(
                f"the processes do not work on the same: process 0 has {given[0][1]} files and process {rank} {count}, "
                "or their names, classes or models differ. Give folders that all machines share, and do not change "
                "them while the processes start."
            )


def _in_main_process(call: Callable[[], R], group: Any) -> R:
    """Call a function in the main process, and return or raise in all processes what it returned or raised."""
    result: Any = None
    error: Exception | None = None
    if comm.is_main_process():
        try:
            result = call()
        except (ValueError, OSError) as problem:
            error = problem
    result, error = comm.all_gather((result, error), group)[0]
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class _Item:
    """A frame that is read: the number of its source, what the file was like, and the network's input."""

    source: int
    stamp: Mapping[str, Any]
    frame: Frame
    prepared: Any


class _Job:
    """Files that this process segments.

    Attributes:
        added: images that were recorded.
        failures: reasons by the source's number and the place to show.
    """

    def __init__(self, stages: Stages, journal: Journal, sources: Sequence[Source], every: int) -> None:
        self.stages, self.journal, self.sources, self.every = stages, journal, sources, every
        self.added = 0
        self.failures: dict[tuple[int, str], str] = {}
        self._lock = Lock()
        self._left: Counter[int] = Counter()  # frames of a source that are on their way
        self._read_whole: set[int] = set()
        self._finished = 0  # sources

    def run(self, progress: Callable[[int, int], None] | None, *, batch_size: int, workers: int) -> None:
        todo = [number for number, source in enumerate(self.sources) if key_of(source) not in self.journal.done]
        todo = todo[comm.get_rank() :: comm.get_world_size()]
        shown = 0

        def show() -> None:
            nonlocal shown
            while progress and shown < self._finished:
                shown += 1
                progress(shown, len(todo))

        with workers_pool(workers) as pool:
            items = read_ahead(map(self._read, todo), pool, workers + batch_size)
            batches = by_size(items, lambda item: self.stages.size(item.prepared), batch_size)
            with closing(finish_beside(batches, self._encode, self._finish, pool, 2 * workers)) as finished:
                for number in finished:
                    self._leave(number)
                    show()
        show()

    def _read(self, number: int) -> Iterator[_Item]:
        """The frames of a file, up to what cannot be read, which is noted."""
        source = self.sources[number]
        stamp = stamp_of(source)
        frames = 0
        try:
            for frame in read_frames(source, every=self.every):
                frames += 1
                if frame.name in self.journal.done:
                    continue
                item = _Item(number, stamp, frame, self.stages.prepare(frame.image))
                with self._lock:
                    self._left[number] += 1
                yield item
            if source.is_video:
                self.journal.end(source, stamp, frames)
        except FAILURES as error:
            self._fail(number, source.place, sentence(error))
        with self._lock:
            self._read_whole.add(number)
        self._count(number)

    def _encode(self, batch: list[_Item]) -> list[tuple[_Item, Any]]:
        """The network; where a batch fails, image by image, so that only those are failures that fail alone."""
        try:
            return list(zip(batch, self.stages.encode([item.prepared for item in batch]), strict=True))
        except FAILURES as error:
            reason = sentence(error)
        if len(batch) > 1:
            logger.warning("%d images do not go through the network together (%s): one by one.", len(batch), reason)
            return [pair for item in batch for pair in self._encode([item])]
        self._fail(batch[0].source, self._place(batch[0]), reason)
        self._leave(batch[0].source)
        return []

    def _finish(self, item: _Item, encoded: Any) -> int:
        """Name and write a frame, and record it. Returns the number of its source."""
        source, frame, place = self.sources[item.source], item.frame, self._place(item)
        try:
            annotations, draw = self.stages.finish(frame, encoded)
        except FAILURES as error:
            self._fail(item.source, place, sentence(error))
            return item.source
        complete = True
        try:
            draw(self.journal.folder / "overlay" / f"{frame.name}.jpg")
        except FAILURES as error:
            complete = False
            panoptic = self.stages.kind == "panoptic"
            kept = "Its panoptic PNG is written." if panoptic else f"Its masks are in {self.journal.json}."
            self._fail(item.source, place, f"{sentence(error)} {kept}")
        height, width = frame.image.shape[:2]
        file_name = frame.name if source.is_video else as_text(source.place)
        image = {"id": frame.name, "file_name": file_name, "height": height, "width": width}
        try:
            self.journal.add(source, item.stamp, image, annotations, complete=complete)
        except OSError as error:
            self.journal.remove_results(frame.name)
            self._fail(item.source, place, f"its record cannot be written ({sentence(error)}).")
            return item.source
        with self._lock:
            self.added += 1
        return item.source

    def _place(self, item: _Item) -> str:
        source = self.sources[item.source]
        return f"{source.place}, {item.frame.name}" if source.is_video else source.place

    def _fail(self, number: int, place: str, reason: str) -> None:
        with self._lock:
            self.failures[number, place] = reason

    def _leave(self, number: int) -> None:
        """Note that a frame of this source is through."""
        with self._lock:
            self._left[number] -= 1
        self._count(number)

    def _count(self, number: int) -> None:
        with self._lock:
            if number in self._read_whole and not self._left[number]:
                self._read_whole.remove(number)
                del self._left[number]
                self._finished += 1


def sentence(error: BaseException) -> str:
    """An error as a sentence; those of the system without their number and the temporary file's name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
