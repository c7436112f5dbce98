"""One case's steps: measured, and recorded as they end, whatever happens to the others."""

from __future__ import annotations

import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import peak_bytes

__all__ = ["OK", "Bench", "DeviceLost", "record"]

Figures = dict[str, Any]
OK = "ok"


class DeviceLost(RuntimeError):
    """The device does not answer this process any more: the case cannot go on."""


def record(path: Path, **entry: Any) -> None:
    """Append a line of JSON to a file."""
    with path.open("a") as file:
        file.write(json.dumps(entry, default=str) + "\n")


class Bench:
    """What a case measures with, and where its results go.

    Attributes:
        device: "cuda", or "cpu", where a clock takes the place of CUDA's events.
        tiny: take sizes of a test.
    """

    def __init__(self, *, device: str, tiny: bool, results: Path, case: str, deadline: float) -> None:
        """
        Args:
            results: file of JSON lines.
            deadline: of `time.monotonic`, after which no step begins.
        """
        self.device, self.tiny = torch.device(device), tiny
        self._results, self._case, self._deadline = results, case, deadline

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def step(self, name: str, work: Callable[[], Figures], *, least: float = 5) -> Figures | None:
        """Call `work` and record the figures that it returns, or why there are none.

        A figure "error" above a figure "tolerance" is recorded as "differs".

        Args:
            least: seconds; with less than these left the step is skipped.

        Returns:
            The figures, None where there are none.

        Raises:
            DeviceLost: an error that CUDA does not recover from; it is recorded.
        """
        left = self._deadline - time.monotonic()
        if left < least:
            self._record(name, f"skipped: it needs about {least:.0f} s, but {max(left, 0):.0f} s are left")
            return None
        start = time.monotonic()
        figures, status, trace = self._attempt(work)
        more = {"traceback": trace} if trace else {}
        self._record(name, status, **(figures or {}), **more, wall=round(time.monotonic() - start, 2))
        # Not while the exception is handled: its frames hold what is to be freed.
        gc.collect()
        if self.cuda and "CUDA error" not in status:
            torch.cuda.empty_cache()
        if "CUDA error" in status:
            raise DeviceLost(status)
        return figures

    def _attempt(self, work: Callable[[], Figures]) -> tuple[Figures | None, str, str]:
        try:
            figures = work()
        except DeviceLost:  # of a step within this one
            raise
        except ModuleNotFoundError as error:
            return None, f"skipped: no module {error.name}", ""
        except (torch.OutOfMemoryError, MemoryError) as error:
            return None, f"out of memory: {str(error).splitlines()[0]:.150}", ""
        except Exception as error:  # whatever it is, the next step goes on
            said = (str(error) or "no message").splitlines()[0]
            return None, f"failed: {type(error).__name__}: {said:.200}", traceback.format_exc()
        difference, tolerance = figures.get("error"), figures.get("tolerance")
        fine = difference is None or tolerance is None or difference <= tolerance  # NaN is not
        return figures, OK if fine else f"differs: {difference:.1e} > {tolerance:.0e}", ""

    def _record(self, step: str, status: str, **figures: Any) -> None:
        record(self._results, case=self._case, step=step, status=status, **figures)

    def time(self, work: Callable[[], Any], *, runs: int = 5) -> float:
        """Median seconds of CUDA's events, or of a clock, that `work` takes; it runs once before (tiny: not)."""
        if self.tiny:
            return self._once(work)
        work()
        return statistics.median(self._once(work) for _ in range(runs))

    def _once(self, work: Callable[[], Any]) -> float:
        if not self.cuda:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        torch.cuda.synchronize()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        work()
        events[1].record()
        torch.cuda.synchronize()
        return events[0].elapsed_time(events[1]) / 1000

    def peak(self, work: Callable[[], Any]) -> int:
        """Bytes allocated on the device, or of this process, at the most while `work` runs."""
        return peak_bytes(work, self.device.type)

    def memory(self, work: Callable[[], Any]) -> Figures:
        """Figures "peak_bytes", as of `peak`, and "reserved_bytes", what PyTorch holds of the device at the most, with
        what is lost between its blocks; on a CPU they are the same."""
        if self.cuda:
            gc.collect()
            torch.cuda.empty_cache()
        peak = self.peak(work)
        return {"peak_bytes": peak, "reserved_bytes": torch.cuda.max_memory_reserved() if self.cuda else peak}

    def autocast(self, dtype: torch.dtype | None) -> AbstractContextManager[object]:
        """Autocast to a type, or none for None."""
        return nullcontext() if dtype in (None, torch.float32) else torch.autocast(self.device.type, dtype)
