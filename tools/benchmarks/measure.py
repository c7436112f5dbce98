"""Time, memory and error of a case, each side's memory in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.case import Case, Work

__all__ = ["apart", "measure", "peak_bytes", "seconds"]

CasesOf = Callable[[str], list[Case]]
"""The cases of a stage on a device ("cpu" or "cuda")."""


def measure(cases_of: CasesOf, index: int, device: str, runs: int | None) -> dict[str, Any]:
    """Measure one case of a stage.

    Args:
        cases_of: a function at a module's top level, since other processes call it.
        index: which of its cases.
        runs: how often each side is timed; None: as often as the case says.

    Returns:
        "name", "reference", "device"; "ours" and "theirs", each with "seconds" (a list: CPU seconds of one thread, or
        of CUDA events), "median" and "peak_bytes" (resident set of the process, or allocation on the device, from just
        before the work to its end); "time_ratio", "memory_ratio", "error", "tolerance" and the targets.
    """
    case = cases_of(device)[index]
    times, error = apart(_times, cases_of, index, device, runs)
    sides = {
        side: {
            "seconds": times[side],
            "median": statistics.median(times[side]),
            "peak_bytes": apart(_peak, cases_of, index, device, side),
        }
        for side in ("ours", "theirs")
    }
    return {
        "name": case.name,
        "reference": case.reference,
        "device": device,
        **sides,
        "time_ratio": sides["ours"]["median"] / sides["theirs"]["median"],
        "memory_ratio": sides["ours"]["peak_bytes"] / sides["theirs"]["peak_bytes"],
        "error": error,
        "tolerance": case.tolerance,
        "time_target": case.time_target,
        "memory_target": case.memory_target,
    }


def _times(cases_of: CasesOf, index: int, device: str, runs: int | None) -> tuple[dict[str, list[float]], float | None]:
    """Seconds of both sides, timed in turn so that a noisy machine disturbs them alike, and the error."""
    case = cases_of(device)[index]
    work = {"ours": case.ours(), "theirs": case.theirs()}
    first = {side: once() for side, once in work.items()}  # and both are warm
    error = None if case.error is None else case.error(first["ours"], first["theirs"])
    del first
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(runs or case.runs):
        for side, once in work.items():
            times[side].append(seconds(once, device))
    return times, error


def seconds(work: Work, device: str) -> float:
    """CPU seconds of this process, or of CUDA events on a device, that `work` takes once."""
    gc.collect()
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start_event.record()
    work()
    end_event.record()
    torch.cuda.synchronize()
    return start_event.elapsed_time(end_event) / 1000


def _peak(cases_of: CasesOf, index: int, device: str, side: str) -> int:
    case = cases_of(device)[index]
    return peak_bytes(case.ours() if side == "ours" else case.theirs(), device)


def peak_bytes(work: Work, device: str) -> int:
    """Largest resident set of this process, or allocation on the device, while `work` runs once."""
    gc.collect()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak up to here
    work()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process with one thread. Raises BrokenProcessPool if the process dies."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return pool.submit(function, *arguments).result()
