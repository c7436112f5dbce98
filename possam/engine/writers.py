"""Where the metrics of a training run go: JSON lines, TensorBoard, and Weights & Biases where it is asked for.

A run that was interrupted repeats the steps since its last checkpoint. What had been written of them is taken back, so
that every step is there once; Weights & Biases cannot, and keeps the first.
"""

from __future__ import annotations

import itertools
import json
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from possam.d2.config import CfgNode
from possam.d2.utils import EventWriter, TensorboardXWriter, get_event_storage
from possam.utils.files import write_atomically

__all__ = ["JSONLines", "LateWriter", "WandbWriter", "build_writers", "check_writers", "set_aside"]

_LINES = "metrics.json"
_WANDB_ID = "wandb_id.txt"


def check_writers(cfg: CfgNode) -> None:
    """Raises ValueError where a package that the run is to write with is not installed."""
    if not cfg.LOG.WANDB_PROJECT:
        return
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"LOG.WANDB_PROJECT is {cfg.LOG.WANDB_PROJECT!r}, but Weights & Biases is not installed: run "
            '`pip install wandb`, or leave it out with LOG.WANDB_PROJECT "".'
        ) from error


def build_writers(cfg: CfgNode) -> list[EventWriter]:
    """What takes a run's metrics into OUTPUT_DIR, every `LOG.PERIOD` steps: medians of the steps since the last time.

    Raises:
        ValueError: see `check_writers`.
    """
    check_writers(cfg)
    folder, window = Path(cfg.OUTPUT_DIR), cfg.LOG.PERIOD
    makers: list[Callable[[int], EventWriter]] = [
        lambda first: JSONLines(folder / _LINES, first_step=first, window=window),
        lambda first: TensorboardXWriter(str(folder), window, purge_step=first),
    ]
    if cfg.LOG.WANDB_PROJECT:
        makers.append(partial(WandbWriter, cfg))
    return [LateWriter(make, folder=folder) for make in makers]


def set_aside(folder: str | Path) -> None:
    """Give what an earlier run left in a folder other names: a new run that is interrupted must not go on with it."""
    for path in (Path(folder) / _LINES, Path(folder) / _WANDB_ID):
        if path.is_file():
            path.replace(_free_name(path))


def _free_name(path: Path) -> Path:
    """`metrics.json` → `metrics.earlier.json`, or `metrics.earlier2.json` and so on where there is one already."""
    names = (f"{path.stem}.earlier{number if number > 1 else ''}{path.suffix}" for number in itertools.count(1))
    return next(found for name in names if not (found := path.with_name(name)).exists())


class LateWriter(EventWriter):  # type: ignore[misc]
    """A writer that is made when it is known at which step the run begins: when there is something to write."""

    def __init__(self, make: Callable[[int], EventWriter], *, folder: Path) -> None:
        """
        Args:
            make: makes the writer, given the first step of this run.
            folder: what it writes to, for errors.
        """
        self._make = make
        self._folder = folder
        self._writer: EventWriter | None = None

    def write(self) -> None:
        """Write what is new. OSError, with the folder and what to do, where it cannot be written."""
        with self._advice():
            if self._writer is None:
                histories = list(get_event_storage().histories().values())
                if not histories:
                    return
                self._writer = self._make(min(history.values()[0][1] for history in histories))
            self._writer.write()

    def close(self) -> None:
        if self._writer is not None:
            with self._advice():
                self._writer.close()

    @contextmanager
    def _advice(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"The metrics of the run cannot be written to {self._folder} ({error.strerror or error}). Free some "
                "space or make the folder writable, and go on from the last checkpoint with --resume."
            ) from error


class _NewScalars(EventWriter):  # type: ignore[misc]
    """Base of writers that take the scalars which are new since they wrote last, step by step."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._last_step = -1

    def write(self) -> None:
        steps: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, step) in get_event_storage().latest_with_smoothing_hint(self._window).items():
            if step > self._last_step:
                steps[step][name] = value
        for step in sorted(steps):
            self.write_step(step, steps[step])
            self._last_step = step

    def write_step(self, step: int, scalars: dict[str, float]) -> None:
        raise NotImplementedError


class JSONLines(_NewScalars):
    """A file with one JSON object a step: its scalars by name, and its number as "iteration".

    Numbers that are not finite, which JSON does not have, are null. A run from step 0 starts a new file, and leaves the
    one before under another name.
    """

    def __init__(self, path: str | Path, *, first_step: int, window: int = 20) -> None:
        """
        Args:
            path: what it has of steps before the first one is kept; of others, and lines cut off, nothing.
            first_step: of this run.
            window: how many steps a smoothed scalar is the median of.
        """
        super().__init__(window)
        path = Path(path)
        if path.is_file():
            if first_step == 0:
                path.replace(_free_name(path))
            else:
                lines = path.read_bytes().splitlines(keepends=True)
                kept = b"".join(line for line in lines if _before(line, first_step))
                write_atomically(path, lambda file: file.write(kept))
        self._file = path.open("a", encoding="utf-8")

    def write_step(self, step: int, scalars: dict[str, float]) -> None:
        values = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        self._file.write(json.dumps(values | {"iteration": step}, sort_keys=True, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _before(line: bytes, step: int) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line)["iteration"] < step
    except (ValueError, KeyError, TypeError):  # a line that was cut off
        return False


class WandbWriter(_NewScalars):
    """Weights & Biases. A resumed run goes on as the same run there: its id is kept in OUTPUT_DIR.

    Offline or off, as ever, with the environment's WANDB_MODE.
    """

    def __init__(self, cfg: CfgNode, first_step: int) -> None:
        super().__init__(cfg.LOG.PERIOD)
        import wandb

        place = Path(cfg.OUTPUT_DIR) / _WANDB_ID
        name = place.read_text().strip() if first_step > 0 and place.is_file() else uuid.uuid4().hex[:8]
        write_atomically(place, lambda file: file.write(f"{name}\n".encode()))
        self._run: Any = wandb.init(
            project=cfg.LOG.WANDB_PROJECT,
            id=name,
            resume="allow",
            dir=cfg.OUTPUT_DIR,
            config=yaml.safe_load(cfg.dump()),
        )

    def write_step(self, step: int, scalars: dict[str, float]) -> None:
        self._run.log(scalars, step=step)

    def close(self) -> None:
        self._run.finish()
