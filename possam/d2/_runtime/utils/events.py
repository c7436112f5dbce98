"""Scalars of a training run: where they are kept, and who writes them out."""

from collections import defaultdict
from functools import cached_property
from typing import Any

from fvcore.common.history_buffer import HistoryBuffer

_ACTIVE: list["EventStorage"] = []


def get_event_storage() -> "EventStorage":
    """The innermost `EventStorage` that is entered right now."""
    assert _ACTIVE, "get_event_storage() only works inside a 'with EventStorage(...)' block"
    return _ACTIVE[-1]


class EventStorage:
    """Histories of named scalars.

    Used as a context manager, it is what `get_event_storage` returns inside the block.
    """

    def __init__(self, start_iter: int = 0):
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._iter = start_iter

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
        for name, (value, when) in list(self.latest().items()):
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


class EventWriter:
    """Takes what the current storage holds and puts it somewhere."""

    def write(self) -> None:
        """Write what is new."""
        raise NotImplementedError

    def close(self) -> None:
        """Release files."""


class TensorboardXWriter(EventWriter):
    """Scalars for TensorBoard; the file appears with the first of them."""

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

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()
