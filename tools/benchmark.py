"""Time, peak memory and error of this project's parts against the field's, side by side in one run.

The reference is the public package where there is one (segment_anything, open_clip) and otherwise a plain, obviously
right implementation of tests/reference. Times are CPU seconds of one thread, or CUDA events; the median of several
runs, both sides in turn. Memory is that of a process which does nothing else. Needs no weights and no datasets.

Examples:
    python tools/benchmark.py merge pq
    python tools/benchmark.py all --output output/benchmark.json
    python tools/benchmark.py encoder --match "bf16" --runs 3 --device cuda
    python tools/benchmark.py gpu --help    # everything that wants a GPU, in one run
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on a shared machine threads wait for each other
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # tests/reference

import torch  # noqa: E402
from benchmarks import STAGES  # noqa: E402
from benchmarks.gpu import command as gpu  # noqa: E402
from benchmarks.measure import measure  # noqa: E402
from tabulate import tabulate  # noqa: E402

from possam.utils.files import full_path, write_json  # noqa: E402
from possam.utils.output import run_command  # noqa: E402

HEADER = ("what", "against", "ours", "theirs", "time", "peak", "theirs", "memory", "error")


def row(result: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    ours, theirs = result["ours"], result["theirs"]
    return (
        result["name"],
        result["reference"],
        f"{ours['median']:.3g} s",
        f"{theirs['median']:.3g} s",
        _ratio(result["time_ratio"], result["time_target"]),
        f"{ours['peak_bytes'] / 2**20:,.0f} MiB",
        f"{theirs['peak_bytes'] / 2**20:,.0f} MiB",
        _ratio(result["memory_ratio"], result["memory_target"]),
        "not comparable" if result["error"] is None else f"{result['error']:.1e} (≤ {result['tolerance']:.0e})",
    )


def _ratio(ratio: float, target: float | None) -> str:
    return f"{ratio:.3f}" if target is None else f"{ratio:.3f} (≤ {target:g})"


def origin(device: str) -> dict[str, str]:
    """Hardware, versions and commit, without which a figure means nothing."""
    git = ["git", "rev-parse", "--short", "HEAD"] if shutil.which("git") else ["true"]
    found = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "hardware": torch.cuda.get_device_name() if device == "cuda" else f"{cpu}, one thread",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": found.stdout.strip() or "unknown",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def main() -> int | None:
    if sys.argv[1:2] == ["gpu"]:
        return gpu.main(sys.argv[2:], origin)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = [*STAGES, "all"]
    parser.add_argument("stages", nargs="+", choices=stages, help="what to measure")
    parser.add_argument("--match", default="", help="only cases whose name has this in it")
    parser.add_argument("--runs", type=int, help="how often each side is timed (default: 5 for most)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=full_path, help="write all figures to this JSON file")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; leave out --device cuda")
    if args.runs is not None and args.runs < 1:
        parser.error(f"--runs is {args.runs}, but must be at least 1")
    chosen = list(STAGES) if "all" in args.stages else args.stages
    about = origin(args.device)
    results: dict[str, list[dict[str, Any]]] = {}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    for stage in chosen:
        cases_of = importlib.import_module(STAGES[stage]).cases
        results[stage] = []
        for index, case in enumerate(cases_of(args.device)):
            if args.match not in case.name:
                continue
            print(f"{stage}: {case.name} ...", file=sys.stderr, flush=True)
            results[stage].append(measure(cases_of, index, args.device, args.runs))
            if args.output:  # what was measured is kept if a later case fails
                write_json(args.output, {"origin": about, "stages": results})
    rows = [row(result) for stage in chosen for result in results[stage]]
    if not rows:
        parser.error(f"no case of {', '.join(chosen)} has {args.match!r} in its name")
    print(tabulate(rows, headers=HEADER, tablefmt="github", disable_numparse=True))
    return None


if __name__ == "__main__":
    sys.exit(run_command(main))
