"""Common code of the benchmarks on the miniature world: options, runs of the tools, and results kept on disk.

Each result is computed once per output folder. A file beside it records its settings and the digests of its weights. A
result with other settings or weights raises an error and is not used in a table.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from sweep import Grid
from tabulate import tabulate

from possam.config import load
from possam.config.tree import flatten
from possam.d2.data import DatasetCatalog
from possam.engine import prepare_datasets
from possam.utils.files import file_sha256, full_path, read_json, write_json
from possam.utils.output import run_command

ROOT = Path(__file__).resolve().parent.parent
_FOLDERS = ("OUTPUT_DIR", "INPUT.FEATURE_CACHE_DIR")
"""Settings that change no result."""
_EVALUATION = ("TEST.", "MODEL.ENSEMBLE.", "MODEL.MASK_FORMER.TEST.")
"""Settings that change no training."""

Scores = dict[str, dict[str, float]]
"""Panoptic metrics by the label of a setting."""
Key = TypeVar("Key")
Result = TypeVar("Result")


class ToolError(Exception):
    """One of the tools ended with an error, which is in its log."""


def run_benchmark(main: Callable[[], None]) -> NoReturn:
    """End the process with the exit code of `main`; expected errors are printed in one sentence."""
    try:
        sys.exit(run_command(main))
    except (ValueError, FileNotFoundError, ToolError) as error:
        sys.exit(f"error: {error}")


def parse_run_options(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, *, output: str, seeds: Sequence[int] = (1, 2, 3)
) -> argparse.Namespace:
    """Parse a benchmark's options and those of all: seeds (each once), jobs, and the absolute path of the output."""
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--output", type=full_path, default=Path(output))
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f"--jobs is {args.jobs}, but must be at least 1")
    args.seeds, args.output = list(dict.fromkeys(args.seeds)), args.output.resolve()
    return args


def check_data(configs: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Load every dataset that configurations (file, options) train or test on, before hours are spent on others.

    Raises:
        ValueError: a configuration names an unknown dataset.
        FileNotFoundError: a dataset is not prepared; the message has the command.
    """
    loaded = set()
    for config, options in configs:
        cfg = load(str(ROOT / config), options)
        prepare_datasets(cfg)
        for name in [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]:
            if name not in loaded:
                DatasetCatalog.get(name)
                loaded.add(name)


def finished(pool: Executor, futures: Mapping[Key, Future[Result]]) -> dict[Key, Result]:
    """The results of the futures; where one fails, those that wait are not started."""
    try:
        for future in as_completed(futures.values()):
            future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    return {key: future.result() for key, future in futures.items()}


def run_tool(command: Sequence[str], log: Path) -> None:
    """Run one of the tools; what it prints is appended to a file. Raises ToolError where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = log.read_text(errors="replace").strip().splitlines() or [""]
        raise ToolError(f"{command[0]} ended with exit code {done.returncode}: {lines[-1]} (the whole is in {log})")


def run_folder(output: Path, variant: str, seed: int) -> Path:
    """The folder of a run, with the characters of the variant's name that any file may have."""
    return output / "".join(c for c in variant.replace(" ", "_") if c.isalnum() or c in "_+-") / str(seed)


def keep(
    result: Path,
    config: str,
    options: Sequence[str],
    make: Callable[[], object],
    *,
    complete: bool = True,
    ignored: Sequence[str] = (),
) -> None:
    """Make a file that is not there, or not complete.

    Args:
        config: configuration that it is made with, and `options` over it.
        ignored: beginnings of the keys that do not change it.

    Raises:
        ValueError: the file was made with other settings or weights, or it is not known with which.
    """
    origin, record = _origin(config, options, ignored), result.with_name(f"{result.stem}.origin.json")
    if complete and result.is_file():
        found = read_json(record) if record.is_file() else {}
        if different := sorted(key for key in found | origin if found.get(key) != origin.get(key)):
            raise ValueError(
                f"{result} was made with other settings or weights ({', '.join(different[:5])}). Delete "
                f"{result.parent}, or give another --output."
            )
        return
    result.unlink(missing_ok=True)
    result.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, origin)
    make()


def _origin(config: str, options: Sequence[str], ignored: Sequence[str]) -> dict[str, Any]:
    """The settings, those that are files as their digest, and the digests of the weights that come with the package."""
    every = flatten(yaml.safe_load(load(str(ROOT / config), options).dump()))
    settings = {key: value for key, value in every.items() if not key.startswith((*_FOLDERS, *ignored))}
    files = {key: Path(value) for key, value in settings.items() if isinstance(value, str) and value}
    return settings | {key: file_sha256(path) for key, path in files.items() if path.is_file()} | _shipped_weights()


@cache
def _shipped_weights() -> dict[str, str]:
    return {file.name: file_sha256(file) for file in sorted(ROOT.glob("possam/*/weights/*.safetensors"))}


def train(config: str, options: Sequence[str], seed: int, folder: Path) -> Path:
    """The weights of a trained model, which is trained now if it is not there."""
    weights = folder / "model_final.pth"
    options = [*options, "SEED", str(seed), "DATASETS.TEST", "[]", "OUTPUT_DIR", str(folder)]
    command = ["tools/train_net.py", "--config-file", config, *options]
    keep(weights, config, options, lambda: run_tool(command, folder / "stdout.txt"), ignored=_EVALUATION)
    return weights


def score(weights: Path, config: str, options: Sequence[str], dataset: str, grids: Sequence[str], name: str) -> Scores:
    """Metrics of the settings of the grids; results are in a folder of this name beside the weights."""
    folder = weights.parent / name
    results = folder / "evaluation" / dataset / "results.json"
    wanted = [label for grid in map(Grid.parse, grids) for label in grid.settings()]
    options = [*options, "MODEL.WEIGHTS", str(weights), "OUTPUT_DIR", str(folder), "DATASETS.TEST", f"['{dataset}']"]
    options += ["TEST.TASKS", "['panoptic']", "TEST.NUM_VISUALIZATIONS", "0"]
    chosen = [part for grid in grids for part in ("--grid", grid)]
    command = ["tools/sweep.py", "--config-file", config, *chosen, *options]
    complete = results.is_file() and set(wanted) <= read_json(results)["compare"].keys()
    keep(results, config, options, lambda: run_tool(command, folder / "stdout.txt"), complete=complete)
    scores: Scores = read_json(results)["compare"]
    return {label: scores[label] for label in wanted}


def spread(values: Sequence[float | None], *, digits: int = 1) -> str:
    """Mean ± standard deviation of the values that are known; "–" where none is."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{statistics.mean(known):.{digits}f} ± {statistics.stdev(known):.{digits}f}"


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with a title above it."""
    text = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return f"**{title}**\n\n{text}\n"
