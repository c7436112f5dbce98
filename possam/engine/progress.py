"""How a training run is doing: on a terminal one line that is renewed, otherwise lines in the log."""

from __future__ import annotations

import logging
import resource
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from rich import get_console
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from possam.d2.engine import HookBase
from possam.d2.utils import EventStorage, comm

__all__ = ["TrainingProgress", "describe", "peak_memory"]

logger = logging.getLogger(__name__)

_MEMORY = 1000  # steps that the time left is judged by


class TrainingProgress(HookBase):  # type: ignore[misc]
    """Records speed, memory and time left of a run, and shows them with its losses. For the main process alone.

    Scalars: "images_per_second", of all processes together and without evaluations and checkpoints; "max_mem", peak MiB
    (`peak_memory`); "eta_seconds". Register it after what records the learning rate and before what writes scalars.

    The line on a terminal stays at the bottom: what is printed or logged meanwhile appears above it. Runs of several
    processes, and those whose output is no terminal, have lines in the log alone.
    """

    def __init__(self, *, images: int, period: int, console: Console | None = None) -> None:
        """
        Args:
            images: of a step, of all processes together.
            period: steps between two lines of the log.
            console: where the line is renewed; None for the standard output.
        """
        self._images, self._period = images, period
        self._console = console or get_console()
        self._seconds: deque[float] = deque(maxlen=_MEMORY)
        self._line: _Line | None = None

    def before_train(self) -> None:
        if self._console.is_terminal and comm.get_world_size() == 1:
            self._line = _Line(self._console, start=self.trainer.start_iter, end=self.trainer.max_iter)

    def before_step(self) -> None:
        self._start = time.perf_counter()

    def after_step(self) -> None:
        seconds = time.perf_counter() - self._start
        self._seconds.append(seconds)
        done, end = self.trainer.iter + 1, self.trainer.max_iter
        storage = self.trainer.storage
        left = statistics.median(self._seconds) * (end - done) if self._due(done) else None
        storage.put_scalar("images_per_second", self._images / max(seconds, 1e-9))
        if left is not None:
            storage.put_scalars(max_mem=peak_memory(), eta_seconds=left, smoothing_hint=False)
            text = describe(storage, window=self._period)
            logger.info("step %d/%d  %s", done, end, text)
            if self._line:
                before, _, left = text.rpartition("  ")
                self._line.text = f"{left}  {before}"  # what a narrow terminal cuts off is the least
        if self._line:
            self._line.advance(done)
            if done == end:  # an evaluation has a line of its own
                self._close()

    def after_train(self) -> None:
        self._close()

    def _due(self, done: int) -> bool:
        first = done == self.trainer.start_iter + 1
        return first or done % self._period == 0 or done == self.trainer.max_iter

    def _close(self) -> None:
        if self._line:
            self._line.close()
            self._line = None


class _Line:
    """A line at the bottom of a terminal. Loggers that write to this terminal do so above it, but for this file's."""

    def __init__(self, console: Console, *, start: int, end: int) -> None:
        self.text = ""
        bar = BarColumn(bar_width=20 if console.width > 100 else 8)
        columns = ("[bold]Training", bar, "{task.completed:,.0f}/{task.total:,.0f}")
        cut: Any = "ellipsis" if "utf" in console.encoding else "crop"  # a character that ASCII does not have
        rest = TextColumn("{task.fields[text]}", table_column=Column(ratio=1, no_wrap=True, overflow=cut))
        self._progress = Progress(*columns, rest, console=console, transient=True, expand=True)
        outputs = (sys.stdout, sys.stderr)
        handlers = [handler for handler in _handlers() if handler.stream in outputs]
        self._progress.start()  # from here on sys.stdout and sys.stderr write above the line
        self._streams = [(handler, handler.stream) for handler in handlers]
        for handler, stream in self._streams:
            handler.setStream(sys.stdout if stream is outputs[0] else sys.stderr)
            handler.addFilter(_not_ours)
        self._task = self._progress.add_task("", total=end, completed=start, text="")

    def advance(self, done: int) -> None:
        self._progress.update(self._task, completed=done, text=self.text)

    def close(self) -> None:
        self._progress.stop()
        for handler, stream in self._streams:
            handler.removeFilter(_not_ours)
            handler.setStream(stream)


def describe(storage: EventStorage, *, window: int) -> str:
    """Losses, speed, learning rate, memory and time left, of a storage that `TrainingProgress` has recorded in.

    Args:
        window: how many steps losses and speed are the median of. Losses of the decoder's earlier layers are left out.
    """
    now = {name: value for name, (value, _) in storage.latest_with_smoothing_hint(window).items()}
    parts = [f"{name.removeprefix('loss_')} {now[name]:.3g}" for name in now if name.startswith("loss_") and
             not name[-1].isdigit()]  # fmt: skip
    shown = [f"loss {now['total_loss']:.4g}" + (f" ({', '.join(parts)})" if parts else "")] * ("total_loss" in now)
    shown += [f"lr {now['lr']:.3g}"] * ("lr" in now)
    speed = now["images_per_second"]
    shown += [f"{speed:,.{0 if speed >= 100 else 1 if speed >= 10 else 2}f} images/s", f"{now['max_mem']:,.0f} MiB"]
    return "  ".join([*shown, f"{timedelta(seconds=round(now['eta_seconds']))} left"])


def peak_memory() -> float:
    """Most memory so far in MiB: allocated on the CUDA device where there is one, else resident of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    for each in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(each, logging.Logger):
            yield from (handler for handler in each.handlers if isinstance(handler, logging.StreamHandler))


def _not_ours(record: logging.LogRecord) -> bool:
    return record.name != __name__
