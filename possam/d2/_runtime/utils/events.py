"""Scalars of a training run: where they are kept, and who writes them out."""

import datetime
import json
import logging
import os
import time
from collections import defaultdict
from functools import cached_property
from typing import Any

import torch
from fvcore.common.history_buffer import HistoryBuffer

from .file_io import PathManager

_ACTIVE: list["EventStorage"] = []


def get_event_storage() -> "EventStorage":
    """The innermost `EventStorage` that is entered right now."""
    assert _ACTIVE, "get_event_storage() only works inside a 'with EventStorage(...)' block"
    return _ACTIVE[-1]


def has_event_storage() -> bool:
    """Whether any `EventStorage` is entered."""
    return bool(_ACTIVE)


class EventStorage:
    """Histories of named scalars, with images waiting for a writer.

    Used as a context manager, it is what `get_event_storage` returns inside the block.
    """

    def __init__(self, start_iter: int = 0):
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._iter = start_iter
        self._vis_data: list[tuple[str, Any, int]] = []

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Keep an image (C×H×W, uint8 0..255 or float 0..1, RGB) until a writer takes it."""
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_scalar(self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Add one value to a scalar's history.

        Args:
            name: the scalar.
            value: anything `float` takes.
            smoothing_hint: whether writers should show a median over a window rather than the last value; one
                scalar keeps one hint.
            cur_iter: the iteration it belongs to, by default the storage's.
        """
        when = self._iter if cur_iter is None else cur_iter
        number = float(value)
        known = self._smoothing_hints.setdefault(name, smoothing_hint)
        assert known == smoothing_hint, f"scalar '{name}' came with smoothing_hint={known} before"
        self._history[name].update(number, when)
        # Last: losses may be recorded in a thread, and a writer starts from this dict.
        self._latest_scalars[name] = (number, when)

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any) -> None:
        """`put_scalar` for every keyword."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def history(self, name: str) -> HistoryBuffer:
        """The history of one scalar; KeyError if it was never put."""
        if name not in self._history:
            raise KeyError(f"scalar '{name}' has no history")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """Name → history."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Name → (last value, its iteration)."""
        return self._latest_scalars

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Like `latest`, with the median of the last ``window_size`` iterations for scalars hinted so."""
        shown = {}
        for name, (value, when) in list(self._latest_scalars.items()):
            if self._smoothing_hints[name]:
                value = self._history[name].median(self.count_samples(name, window_size))
            shown[name] = (value, when)
        return shown

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values a scalar got in its last ``window_size`` iterations."""
        records = self._history[name].values()
        threshold = records[-1][1] - window_size
        for count, (_, when) in enumerate(reversed(records)):
            if when <= threshold:
                return count
        return len(records)

    def smoothing_hints(self) -> dict[str, bool]:
        """Name → whether writers should smooth it."""
        return self._smoothing_hints

    def step(self) -> None:
        """Go to the next iteration, unless the trainer sets `iter` itself."""
        self._iter += 1

    @property
    def iter(self) -> int:
        """The current iteration."""
        return self._iter

    @iter.setter
    def iter(self, val: int) -> None:
        self._iter = int(val)

    def __enter__(self) -> "EventStorage":
        _ACTIVE.append(self)
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        assert _ACTIVE[-1] is self, "event storages must be left in the reverse order of entering"
        _ACTIVE.pop()

    def clear_images(self) -> None:
        """Forget the images, once written."""
        self._vis_data = []

class EventWriter:
    """Takes what the current storage holds and puts it somewhere."""

    def write(self) -> None:
        """Write what is new."""
        raise NotImplementedError

    def close(self) -> None:
        """Release files."""


class JSONWriter(EventWriter):
    """One JSON object a line, one line an iteration."""

    def __init__(self, json_file: str, window_size: int = 20):
        self._file_handle = PathManager.open(json_file, "a")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        lines: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, when) in get_event_storage().latest_with_smoothing_hint(self._window_size).items():
            if when > self._last_write:
                lines[when][name] = value
        for when, scalars in lines.items():
            self._file_handle.write(json.dumps({**scalars, "iteration": when}, sort_keys=True) + "\n")
        self._last_write = max(lines, default=self._last_write)
        self._file_handle.flush()
        if hasattr(self._file_handle, "fileno"):  # remote files have no descriptor
            os.fsync(self._file_handle.fileno())

    def close(self) -> None:
        self._file_handle.close()


class TensorboardXWriter(EventWriter):
    """Scalars and images for TensorBoard; the file appears with the first of them."""

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any):
        self._window_size = window_size
        self._writer_args = {"log_dir": log_dir, **kwargs}
        self._last_write = -1

    @cached_property
    def _writer(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self._writer_args)

    def write(self) -> None:
        storage = get_event_storage()
        fresh = {
            name: record
            for name, record in storage.latest_with_smoothing_hint(self._window_size).items()
            if record[1] > self._last_write
        }
        for name, (value, when) in fresh.items():
            self._writer.add_scalar(name, value, when)
        self._last_write = max((when for _, when in fresh.values()), default=self._last_write)
        for name, image, when in storage._vis_data:
            self._writer.add_image(name, image, when)
        storage.clear_images()

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """One line for people: time left, losses, speed, learning rate, memory."""

    def __init__(self, max_iter: int | None = None, window_size: int = 20):
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None

    def _get_eta(self, storage: EventStorage) -> str:
        if self._max_iter is None:
            return ""
        left = self._max_iter - storage.iter - 1
        if "time" in storage.histories():
            seconds = storage.history("time").median(1000) * left
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            return str(datetime.timedelta(seconds=int(seconds)))
        now, before = time.perf_counter(), self._last_write
        self._last_write = (storage.iter, now)
        if before is None or before[0] == storage.iter:
            return ""
        pace = (now - before[1]) / (storage.iter - before[0])
        return str(datetime.timedelta(seconds=int(pace * left)))

    def _medians(self, storage: EventStorage, tag: str) -> str:
        shown = []
        for name, history in list(storage.histories().items()):
            if tag in name:
                value = history.median(storage.count_samples(name, self._window_size))
                shown.append(f"{name}: {value:.4g}")
        return "  ".join(shown)

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            # After the last step only evaluation results are new, and those have their own report.
            return
        eta = self._get_eta(storage)
        histories = storage.histories()
        parts = [f"eta: {eta}"] if eta else []
        parts += [f"iter: {storage.iter}", self._medians(storage, "loss"), self._medians(storage, "[metric]")]
        if "time" in histories:
            times = storage.history("time")
            parts += [f"time: {times.global_avg():.4f}", f"last_time: {times.latest():.4f}"]
        if "data_time" in histories:
            waits = storage.history("data_time")
            recent = waits.avg(storage.count_samples("data_time", self._window_size))
            parts += [f"data_time: {recent:.4f}", f"last_data_time: {waits.latest():.4f}"]
        parts.append(f"lr: {storage.history('lr').latest():.5g}" if "lr" in histories else "lr: N/A")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        self.logger.info(" " + "  ".join(part for part in parts if part))
