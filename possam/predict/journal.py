"""The journal of a folder of predictions: what was segmented with which settings. By it a run that was stopped resumes,
several processes share the work, and one JSON of all predictions is written.

`journal.jsonl` has a line for the settings and then, for every image that is done, a line with its entries of the JSON.
During a run each process appends to a part of its own, `journal.part-<rank>.jsonl`; `Journal.merge` joins them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePath
from threading import Lock
from typing import IO, Any

from possam.predict.sources import Source, as_text
from possam.utils.files import dump_json, write_atomically

__all__ = ["JOURNAL", "Journal", "key_of", "stamp_of"]

logger = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
KINDS = ("panoptic", "instances")
_PART = "journal.part-{}.jsonl"
_SHOWN = 80  # characters of a setting in a message
_WANTED, _OF_IMAGE = {"source", "file", "size", "mtime_ns"}, {"image", "annotations", "complete"}
_END = sys.maxsize  # the place of a video's last record among its frames

Record = dict[str, Any]


class Journal:
    """Record of the images that a run has segmented: read once, then appended to by this process.

    Methods that only the main process calls say so; `begin` comes first, then `open` in all processes.
    """

    def __init__(self, folder: Path, kind: str, rank: int) -> None:
        """
        Args:
            folder: of the results.
            kind: "panoptic" or "instances", the name of the JSON of all predictions.
            rank: of this process.
        """
        self.folder = folder
        self.json = folder / f"{kind}.json"
        self.kind = kind
        self.done: set[str] = set()
        """Names of images, and `key_of` of videos, that earlier runs have finished."""
        self._path = folder / JOURNAL
        self._part_path = folder / _PART.format(rank)
        self._part: IO[bytes] | None = None
        self._lock = Lock()

    # ------------------------------------------------------------------ the main process, before the others begin

    def begin(self, settings: Mapping[str, Any], sources: Sequence[Source], *, overwrite: bool) -> int:
        """Keep what an earlier run with these settings has done of files that are as they were, or begin anew.

        Results of files that have changed since, and of files whose overlay could not be written, are removed, as they
        are made again; so are all results that the journal names with `overwrite`. To be called by the main process.

        Returns:
            How many images of these sources are done.

        Raises:
            ValueError: the folder holds predictions made with other settings, or without a journal; or the journal is
                damaged.
            OSError: the journal cannot be written.
        """
        settings = json.loads(dump_json({"results": self.kind, **settings}))
        if self.json.is_dir():
            raise ValueError(f"{self.json} is a folder, but the predictions are to be written there; remove it.")
        if overwrite:
            self._remove_all()
        elif self._path.is_file():
            self._check(settings)
        elif self.json.exists():
            raise ValueError(
                f"{self.json} exists, but no {JOURNAL} that says how it was made, so the run cannot go on with it. "
                "Give another folder, or --overwrite (overwrite=True) to replace it."
            )
        by_key = {key_of(source): source for source in sources}
        stamp = lru_cache(maxsize=1024)(stamp_of)

        def valid(record: Record) -> bool:
            source = by_key.get(record["source"])
            if source is None:
                return True  # of files that this run is not about
            now = stamp(source)
            if now and all(record[key] == value for key, value in now.items()) and self._has_results(record):
                return True
            self._remove_results(record)
            return False

        return self._rewrite(settings, list(by_key), valid)

    def _check(self, settings: Mapping[str, Any]) -> None:
        before = self._settings()
        changed = [
            f"{key} is {_shown(settings.get(key))} and was {_shown(before.get(key))}"
            for key in sorted({*settings, *before})
            if settings.get(key) != before.get(key)
        ]
        if changed:
            raise ValueError(
                f"{self.folder} holds predictions made with other settings: {'; '.join(changed)}. Give another folder, "
                "the same settings to go on, or --overwrite (overwrite=True) to replace what is there."
            )

    def _settings(self) -> dict[str, Any]:
        with self._path.open("rb") as file:
            record = _read(file.readline())
        settings = (record or {}).get("settings")
        if not isinstance(settings, dict) or settings.get("results") not in KINDS:
            raise ValueError(
                f"{self._path} does not begin with the settings of a run. Give another folder, or --overwrite "
                "(overwrite=True) to do everything again."
            )
        return settings

    def _has_results(self, record: Record) -> bool:
        """True if all files that a record names exist."""
        if "image" not in record:
            return True
        return bool(record["complete"]) and all(path.is_file() for path in self._results(record["image"]["id"]))

    def _results(self, name: str) -> list[Path]:
        overlay, png = self.folder / "overlay" / f"{name}.jpg", self.folder / "panoptic" / f"{name}.png"
        return [overlay, png] if self.kind == "panoptic" else [overlay]

    def _remove_results(self, record: Record) -> None:
        if "image" in record:
            self.remove_results(record["image"]["id"])

    def _remove_all(self) -> None:
        if self._path.is_file():
            with suppress(ValueError):  # a journal without settings, whose results' kind is unknown
                (self.folder / f"{self._settings()['results']}.json").unlink(missing_ok=True)
        for path in self._files():
            for _, record in _lines(path):
                self._remove_results(record)
        for path in (*self._files(), self.json):
            path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ all processes

    def open(self) -> None:
        """Read what is done, and open this process's part; after the main process has called `begin`."""
        frames: Counter[str] = Counter()  # of videos
        for _, record in _lines(self._path):
            key = record["source"]
            if "image" in record:
                self.done.add(record["image"]["id"])
                frames[key] += key.endswith("/")
            elif frames[key] == record["frames"]:
                self.done.add(key)
        self._part = self._part_path.open("ab", buffering=0)

    def add(
        self, source: Source, stamp: Mapping[str, Any], image: Record, annotations: list[Record], *, complete: bool
    ) -> None:
        """Record an image: its entry and its annotations of the JSON. Any thread may call.

        Args:
            stamp: what `stamp_of` gave before the file was read.
            complete: whether all its results are written; otherwise a later run does it again.

        Raises:
            OSError: the record cannot be written; the journal is as before.
        """
        found = {"image": image, "annotations": annotations, "complete": complete}
        self._append({"source": key_of(source), **stamp, **found})

    def end(self, source: Source, stamp: Mapping[str, Any], frames: int) -> None:
        """Record how many frames a video has; raises as `add`."""
        self._append({"source": key_of(source), **stamp, "frames": frames})

    def _append(self, record: Record) -> None:
        assert self._part is not None, "the journal is not open"
        line = memoryview(dump_json(record) + b"\n")
        with self._lock:
            end = self._part.seek(0, os.SEEK_END)
            try:
                while line:
                    line = line[self._part.write(line) :]
            except OSError as error:
                with suppress(OSError):
                    self._part.truncate(end)
                raise OSError(error.errno, error.strerror, str(self._part_path)) from error

    def remove_results(self, name: str) -> None:
        """Remove the files of an image, as far as they are there."""
        for path in (self.folder / "overlay" / f"{name}.jpg", self.folder / "panoptic" / f"{name}.png"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close this process's part, with all of it on the disk."""
        if self._part is not None:
            with self._part as part:
                os.fsync(part.fileno())
            self._part = None

    # ------------------------------------------------------------------ the main process, when the others are done

    def merge(self, sources: Sequence[Source], categories: list[Record]) -> int:
        """Join all parts to one journal, and write the JSON of these sources from it, in their order.

        No more than a line is in memory at a time. To be called by the main process.

        Returns:
            How many images the JSON has.

        Raises:
            OSError: a file cannot be written; what is done is then kept for a later run.
        """
        images = self._rewrite(self._settings(), [key_of(source) for source in sources], lambda record: True)
        write_atomically(self.json, lambda file: self._write_json(file, images, categories))
        return images

    def _rewrite(self, settings: Mapping[str, Any], keys: Collection[str], valid: Callable[[Record], bool]) -> int:
        """Write the journal anew with what is valid of it and its parts: the records of the sources `keys`, in this
        order, and then those of others. Returns how many images the former have."""
        files = self._files()
        index: dict[str, list[tuple[int, int, int]]] = {}  # frame, file, place
        for number, path in enumerate(files):
            for place, record in _lines(path):
                if valid(record):
                    index.setdefault(record["source"], []).append((_frame(record), number, place))
        wanted = set(keys)
        order = [key for key in keys if key in index] + [key for key in index if key not in wanted]

        def write(file: IO[bytes]) -> None:
            file.write(dump_json({"settings": settings}) + b"\n")
            with ExitStack() as stack:
                opened = [stack.enter_context(path.open("rb")) for path in files]
                for key in order:
                    last = {frame: (number, place) for frame, number, place in sorted(index[key])}
                    for number, place in last.values():
                        opened[number].seek(place)
                        file.write(opened[number].readline())

        write_atomically(self._path, write)
        for path in files:
            if path != self._path:
                path.unlink()
        return sum(len({frame for frame, *_ in index[key]} - {_END}) for key in order if key in wanted)

    def _write_json(self, file: IO[bytes], images: int, categories: list[Record]) -> None:
        """The JSON as `write_json` writes it, of the first images of the journal."""

        def write(name: str, values: Callable[[Record], list[Record]]) -> None:
            records = (record for _, record in _lines(self._path) if "image" in record)
            file.write(f'"{name}": ['.encode())
            between = b""
            for record in islice(records, images):
                for value in values(record):
                    file.write(between + dump_json(value))
                    between = b", "
            file.write(b"], ")

        file.write(b"{")
        write("images", lambda record: [record["image"]])
        write("annotations", lambda record: record["annotations"])
        file.write(b'"categories": ' + dump_json(categories) + b"}")

    def _files(self) -> list[Path]:
        """The existing files among the journal and its parts; a later record replaces an earlier one."""
        files = [self._path, *sorted(self.folder.glob(_PART.format("*")))]
        return [path for path in files if path.is_file()]


def key_of(source: Source) -> str:
    """The name of a source's results; of a video, whose frames they are, with a slash behind it."""
    return f"{source.name}/" if source.is_video else source.name


def stamp_of(source: Source) -> dict[str, Any]:
    """Path as text, size in bytes and time of writing of a file, by which changes are noticed; empty if it cannot be
    read. What is at an address is taken as unchanged: size and time are 0."""
    if source.address:
        return {"file": source.address, "size": 0, "mtime_ns": 0}
    try:
        state = os.stat(source.path)
    except OSError:
        return {}
    return {"file": as_text(source.path.as_posix()), "size": state.st_size, "mtime_ns": state.st_mtime_ns}


def _frame(record: Record) -> int:
    """The number of a frame, of a picture 0."""
    return int(record["image"]["id"][len(record["source"]) :] or 0) if "image" in record else _END


def _lines(path: Path) -> Iterator[tuple[int, Record]]:
    """The records of a journal or a part of it and their places in bytes.

    The last line is left out where it is not whole, as when a run was killed. So are damaged ones, with a warning.
    """
    place = damaged = 0
    with path.open("rb") as file:
        for line in file:
            record = _read(line)
            if record is not None and _WANTED <= record.keys() and ("frames" in record or _is_of_image(record)):
                yield place, record
            elif (record is None or "settings" not in record) and line.endswith(b"\n"):
                damaged += 1
            place += len(line)
    if damaged:
        logger.warning("%s has %d lines that are damaged; what they were about is done again.", path, damaged)


def _is_of_image(record: Record) -> bool:
    """Whether a record is of an image, and names files in the folder alone: a journal may come from elsewhere."""
    image = record.get("image")
    if not _OF_IMAGE <= record.keys() or not isinstance(image, dict) or not isinstance(image.get("id"), str):
        return False
    path = PurePath(f"{image['id']}.png")
    return not path.is_absolute() and ".." not in path.parts


def _read(line: bytes) -> Record | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
