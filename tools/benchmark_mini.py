"""The table of the miniature world: strong CLIP, weak CLIP, a random SAM encoder and FC-CLIP, over several seeds.

Trains and evaluates every (variant, seed) with train_net.py and prints PQ all/seen/unseen of every ensemble on the
report split of vocabulary B as mean ± standard deviation. What is in the output folder already is not done again.

Example:
    python tools/benchmark_mini.py --seeds 1 2 3 --jobs 2 --output output/benchmark
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tabulate import tabulate

from possam.utils.files import full_path
from possam.utils.output import run_command

ROOT = Path(__file__).resolve().parent.parent
DATASET = "mini_b_report"
KINDS = ("segments", "best", "matched")
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "strong CLIP": ("configs/mini/possam.yaml", []),
    "weak CLIP": ("configs/mini/possam_weak_clip.yaml", []),
    "random SAM, strong CLIP": ("configs/mini/possam.yaml", ["MODEL.SAM.WEIGHTS", ""]),
    "FC-CLIP, strong CLIP": ("configs/mini/fcclip.yaml", []),
}


def run(variant: str, seed: int, output: Path) -> dict[str, Any]:
    """Results of one run: those that are there, or of the trained model that is there, or of a training now."""
    folder = output / variant.replace(",", "").replace(" ", "_") / str(seed)
    results, weights = folder / "evaluation" / DATASET / "results.json", folder / "model_final.pth"
    if not results.is_file():
        config, overrides = VARIANTS[variant]
        command = [sys.executable, "tools/train_net.py", "--config-file", config]
        if weights.is_file():
            overrides = [*overrides, "MODEL.WEIGHTS", str(weights)]
            command.append("--eval-only")
        command += [*overrides, "SEED", str(seed), "OUTPUT_DIR", str(folder), "TEST.NUM_VISUALIZATIONS", "0"]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "stdout.txt").open("a") as log:
            subprocess.run(command, cwd=ROOT, check=True, stdout=log, stderr=subprocess.STDOUT)
    return json.loads(results.read_text())


def table(variant: str, runs: list[dict[str, Any]]) -> str:
    """PQ, SQ and RQ of every ensemble, and an IoU head's rank correlation, over the runs of one variant."""
    columns = ["PQ", "PQ_seen", "PQ_unseen", "SQ", "RQ"]
    rows = []
    for ensemble in runs[0]["compare"]:
        values = [[run["compare"][ensemble][column] for run in runs] for column in columns]
        rows.append([ensemble, *(_spread(value) for value in values)])
    head = f"**{variant}**, {len(runs)} seeds"
    correlations = {kind: [run.get("iou_head", {}).get(f"spearman_{kind}") for run in runs] for kind in KINDS}
    if not any(None in ranks for ranks in correlations.values()):  # a model without an IoU head has none
        ranks = {kind: _spread(correlations[kind]) for kind in KINDS}
        quality = ", ".join(f"{kind} {rank}" for kind, rank in ranks.items())
        head += f"; IoU head's rank correlation with the true IoU: {quality}"
    return f"{head}\n\n{tabulate(rows, headers=['ensemble', *columns], tablefmt='github')}\n"


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--output", type=full_path, default=Path("output/benchmark"))
    args = parser.parse_args()
    output = args.output.resolve()
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = {
            variant: [pool.submit(run, variant, seed, output) for seed in args.seeds] for variant in args.variants
        }
        for variant, pending in futures.items():
            print(table(variant, [future.result() for future in pending]), flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
