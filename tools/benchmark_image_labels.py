"""What labels of whole images add on the miniature world (Decoupled Supervision), over several seeds.

Every system is trained on masks of vocabulary A, then goes on for as many steps as its configuration of image labels
says: with labels of images of B, 18 of whose 34 classes have no masks in A, and without them. Prints PQ on the report
split of B, of the trained class head alone, of CLIP alone and of the system's own ensemble, as mean ± standard
deviation. What is in the output folder already is not done again.

Example:
    python tools/benchmark_image_labels.py --seeds 1 2 3 --jobs 2 --output output/labels
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmark_runs import (
    ROOT,
    Scores,
    check_data,
    finished,
    parse_run_options,
    run_benchmark,
    score,
    spread,
    table,
    train,
)

from possam.config import load

SYSTEMS = {
    "possam": ("configs/mini/possam.yaml", "configs/mini/possam_image_labels.yaml"),
    "opsnet": ("configs/mini/opsnet.yaml", "configs/mini/opsnet_image_labels.yaml"),
}
"""Configurations of a system: of the training on masks, and of the one that goes on from it with labels."""
STEPS = {
    "without labels": ["DATASETS.TRAIN", "['mini_a_train']", "DATASETS.TRAIN_WEIGHTS", "[]"],
    "with labels": [],
}
GRIDS = ["ldp", "clip"]
COLUMNS = ("PQ", "PQ_seen", "PQ_unseen")


def runs(system: str, seed: int, output: Path, dataset: str, grids: Sequence[str]) -> dict[str, Scores]:
    """Metrics of the grids and of the system's own ensemble: before the further steps, after them without labels and
    with them.
    """
    config, further = SYSTEMS[system]
    grids = list(dict.fromkeys([*grids, load(str(ROOT / config)).MODEL.ENSEMBLE.NAME]))
    folder = output / system / str(seed)
    base = train(config, [], seed, folder)
    models = {"before": base}
    for name, options in STEPS.items():
        options = [*options, "MODEL.WEIGHTS", str(base)]
        models[name] = train(further, options, seed, folder / name.replace(" ", "_"))
    return {name: score(weights, config, [], dataset, grids, "scores") for name, weights in models.items()}


def rows(found: Sequence[dict[str, Scores]], ensembles: Sequence[str]) -> list[list[str]]:
    """A row for each ensemble and training, of the runs of all seeds."""
    return [
        [ensemble, name, *(spread([run[name][ensemble][column] for run in found]) for column in COLUMNS)]
        for ensemble in ensembles
        for name in found[0]
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--dataset", default="mini_b_report", help="constants are to be chosen on mini_b_selection")
    parser.add_argument("--grid", action="append", metavar="TEXT", help="more settings to score, as of tools/sweep.py")
    args = parse_run_options(parser, argv, output="output/labels")
    grids, test = [*GRIDS, *(args.grid or [])], ["DATASETS.TEST", f"['{args.dataset}']"]
    check_data((config, test) for system in args.systems for config in SYSTEMS[system])
    with ThreadPoolExecutor(args.jobs) as pool:
        pending = {
            (system, seed): pool.submit(runs, system, seed, args.output, args.dataset, grids)
            for system in args.systems
            for seed in args.seeds
        }
        found = finished(pool, pending)
    for system in args.systems:
        each = [found[system, seed] for seed in args.seeds]
        title = f"{SYSTEMS[system][0]}, {args.dataset}, {len(args.seeds)} seeds"
        print(table(title, ["ensemble", "training", *COLUMNS], rows(each, list(each[0]["before"]))))


if __name__ == "__main__":
    run_benchmark(main)
