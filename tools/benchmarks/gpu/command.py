"""Everything that wants a GPU, in one run under eight minutes: no network, no data, random weights.

Each case runs in a process of its own; what it measures is written to results.jsonl as it goes, and table.md is written
anew after each. A case that fails, runs out of memory or needs a package that is not there is recorded as such, and the
next goes on; cases that no longer fit into the budget are left out, and the table says so.

Examples:
    python tools/benchmark.py gpu --output output/gpu
    python tools/benchmark.py gpu --match training --budget 200
    python tools/benchmark.py gpu --device cpu --tiny
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.gpu import CASES, Case
from benchmarks.gpu.bench import OK, Bench, DeviceLost, record
from possam.utils.files import full_path, write_atomically
from possam.utils.processes import end_with_parent

__all__ = ["main", "run_cases", "table"]

TOOLS = Path(__file__).resolve().parents[2]
HEADER = ("case", "step", "result", "time", "images/s", "peak", "reference", "peak", "error", "more")
_SHOWN = {
    "case", "step", "status", "wall", "traceback", "seconds", "images_per_second", "peak_bytes", "reference_seconds",
    "reference_peak_bytes", "error", "tolerance",
}  # fmt: skip


def main(arguments: Sequence[str], origin: Callable[[str], dict[str, str]]) -> int:
    """Run the command.

    Args:
        origin: hardware, versions and commit of a device.

    Returns:
        1 where a step failed or differs from its reference, 0 otherwise.
    """
    parser = argparse.ArgumentParser(
        prog="benchmark.py gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes of a test; on a CPU kernels run in an interpreter")
    parser.add_argument("--match", default="", help="only cases whose name has this in it")
    parser.add_argument("--budget", type=float, default=450, help="seconds for all cases (default: %(default)s)")
    parser.add_argument("--output", type=full_path, default=Path("output/gpu"), metavar="DIR")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --tiny runs the same cases in small on a CPU")
    if args.device == "cpu" and not args.tiny:
        parser.error("on a CPU the full sizes take hours; add --tiny")
    chosen = [case for case in CASES if args.match in case.name]
    if not chosen:
        parser.error(f"no case has {args.match!r} in its name; cases: {', '.join(case.name for case in CASES)}")
    args.output.mkdir(parents=True, exist_ok=True)
    about = origin(args.device)
    records = run_cases(chosen, device=args.device, tiny=args.tiny, budget=args.budget, output=args.output, about=about)
    print(f"\n{table(about, records)}")
    bad = [each for each in records if not each["status"].startswith((OK, "skipped"))]
    return 1 if bad else 0


def run_cases(
    cases: Sequence[Case], *, device: str, tiny: bool, budget: float, output: Path, about: dict[str, str]
) -> list[dict[str, Any]]:
    """Run cases one after the other, each in a process of its own, and return all records.

    Args:
        budget: seconds, at whose end a case that is still running is stopped.
        output: an existing folder for results.jsonl and table.md.
    """
    end, results = time.monotonic() + budget, output / "results.jsonl"
    results.write_text("")
    context = _context(device)
    for case in cases:
        left = end - time.monotonic()
        if left < case.least:
            status = f"skipped: it needs about {case.least:.0f} s, but {max(left, 0):.0f} of {budget:.0f} s are left"
            record(results, case=case.name, step="", status=status)
            continue
        print(f"{case.name} ({left:.0f} s left) ...", file=sys.stderr, flush=True)
        limit = left if device == "cpu" else min(left, case.most)
        process = context.Process(target=_work, args=(case, device, tiny, results, time.monotonic() + limit))
        process.start()
        process.join(limit)
        if process.is_alive():
            record(results, case=case.name, step="", status=f"stopped after {limit:.0f} s")
        elif process.exitcode:
            record(results, case=case.name, step="", status=f"failed: its process ended with {process.exitcode}")
        _end(process)
        _write_table(output / "table.md", about, read(results))
    _write_table(output / "table.md", about, read(results))
    return read(results)


def _context(device: str) -> Any:
    """How processes start: forked from one that has imported everything and never touched the device."""
    # The process that they are forked from learns where to import from by its environment alone (before Python 3.13).
    paths = [str(TOOLS), str(TOOLS.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.gpu.preload"])
    return context


def _work(case: Case, device: str, tiny: bool, results: Path, end: float) -> None:
    """In a process of its own: run a case and record what it cannot record itself."""
    end_with_parent()
    os.setpgid(0, 0)  # what it starts ends with it
    os.chdir(TOOLS.parent)  # configurations
    torch.set_num_threads(1)
    bench = Bench(device=device, tiny=tiny, results=results, case=case.name, deadline=end)

    def run() -> dict[str, Any]:
        module = importlib.import_module(f"benchmarks.gpu.{case.module}")
        module.run(bench, *filter(None, [case.system]))
        return {}

    with suppress(DeviceLost):  # which is recorded
        bench.step("all", run, least=0)


def _end(process: Any) -> None:
    if process.pid:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def read(results: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; a last line that was cut off is left out."""
    found = []
    for line in results.read_text().splitlines():
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def table(about: dict[str, str], records: Sequence[dict[str, Any]]) -> str:
    """Hardware and versions, and a line a record, in Markdown."""
    head = ", ".join(f"{key} {value}" for key, value in about.items())
    rows = [_row(each) for each in records]
    return f"{head}\n\n{tabulate(rows, headers=HEADER, tablefmt='github', disable_numparse=True)}\n"


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    more = {key: value for key, value in each.items() if key not in _SHOWN}
    if each["step"] == "all":
        more["wall"] = f"{each['wall']:.0f} s"
    return (
        each["case"],
        each["step"],
        each["status"],
        _number(each, "seconds", lambda value: f"{1000 * value:.3g} ms" if value < 10 else f"{value:.0f} s"),
        _number(each, "images_per_second", lambda value: f"{value:.3g}"),
        _number(each, "peak_bytes", lambda value: f"{value / 2**20:,.0f} MiB"),
        _number(each, "reference_seconds", lambda value: f"{1000 * value:.3g} ms"),
        _number(each, "reference_peak_bytes", lambda value: f"{value / 2**20:,.0f} MiB"),
        _number(each, "error", lambda value: f"{value:.1e}"),
        "; ".join(f"{key} {_text(value)}" for key, value in more.items()),
    )


def _number(each: dict[str, Any], key: str, shape: Callable[[float], str]) -> str:
    return shape(each[key]) if isinstance(each.get(key), int | float) else ""


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_table(path: Path, about: dict[str, str], records: Sequence[dict[str, Any]]) -> None:
    content = table(about, records).encode()
    write_atomically(path, lambda file: file.write(content))
