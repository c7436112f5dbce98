"""Tables 1 and 4 to 7 of arXiv:2303.11324 on the miniature world, over several seeds, from models trained here.

Trains every model (with and without attention to CLIP) on vocabulary A with train_net.py, scores all settings of a
model on one forward pass over each test split with sweep.py, and prints PQ as mean ± standard deviation over the seeds.
CLIP's embeddings by a pass for each mask (Table 5) need a pass over the images each. What is in the output folder
already is not done again.

Example:
    python tools/benchmark_tables.py --seeds 1 2 3 --jobs 2 --output output/tables
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import benchmark_prompts
import torch
from benchmark_prompts import ROOT
from benchmark_prompts import run_tool as run
from sweep import Grid
from tabulate import tabulate

from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets
from possam.engine.trainer import build_test_loader
from possam.utils.files import full_path, read_json, write_json
from possam.utils.output import run_command

CONFIG = "configs/mini/opsnet.yaml"
MODELS: dict[str, list[str]] = {"attention": [], "plain": ["MODEL.OPSNET.CROSS_ATTENTION", "False"]}
"""Settings of the models; the first is the whole system."""
SPLITS = {"A": "mini_a_report", "B": "mini_b_report"}

FILTERS = ("cls", "iou", "cls_iou")
RATIOS, DEBIASES, SUMS = (0, 5, 10, 15), (0, 0.25, 0.5, 0.75, 1), (1, 2, 3, 4)
EMBEDDINGS = {
    "CLIP": "clip void=False",
    "CLIP, void of the query": "clip void=True",
    "query": "modulation ratio=0 debias=0",
    "modulated": "modulation ratio=10 debias=0.5",
}
"""What masks are named by; a = 0 and b = 0 leave the query embedding as it is, bit for bit."""
PASSES = {"masking": "masking", "cropping": "cropping", "mask pooling": "pooling"}
_FILTERED = [f"{embedding} filter={','.join(FILTERS)}" for embedding in EMBEDDINGS.values()]
_SUMS = f"embedding_sum ratio={','.join(map(str, SUMS))} filter=cls_iou"
_TABLE6 = f"modulation ratio={','.join(map(str, RATIOS))} debias={','.join(map(str, DEBIASES))} filter=cls_iou"
FUSION = "modulation ratio=10 debias=0 filter=cls_iou"
GRIDS: dict[tuple[str, str], list[str]] = {
    ("plain", "A"): _FILTERED[:3],
    ("plain", "B"): _FILTERED[:3],
    ("attention", "A"): [*_FILTERED, _SUMS, FUSION],
    ("attention", "B"): [*_FILTERED, _SUMS, _TABLE6],
}
"""What is scored of each model on each split."""
TIMED_IMAGES = 20

Scores = dict[str, dict[str, float]]
"""Panoptic metrics by the label of a setting."""


def train(config: str, options: Sequence[str], seed: int, folder: Path) -> Path:
    """The weights of a trained model, which is trained now if it is not there."""
    weights = folder / "model_final.pth"
    if not weights.is_file():
        command = ["tools/train_net.py", "--config-file", config, *options, "SEED", str(seed)]
        run([*command, "DATASETS.TEST", "[]", "OUTPUT_DIR", str(folder)], folder / "stdout.txt")
    return weights


def score(weights: Path, config: str, options: Sequence[str], dataset: str, grids: Sequence[str], name: str) -> Scores:
    """Metrics of all settings of the grids; results are in a folder of this name beside the weights."""
    folder = weights.parent / name
    results = folder / "evaluation" / dataset / "results.json"
    wanted = {label for grid in map(Grid.parse, grids) for label in grid.settings()}
    if not results.is_file() or not wanted <= read_json(results)["compare"].keys():
        chosen = [part for grid in grids for part in ("--grid", grid)]
        places = ["MODEL.WEIGHTS", str(weights), "OUTPUT_DIR", str(folder), "DATASETS.TEST", f"['{dataset}']"]
        places += ["TEST.TASKS", "['panoptic']", "TEST.NUM_VISUALIZATIONS", "0"]
        run(["tools/sweep.py", "--config-file", config, *chosen, *options, *places], folder / "stdout.txt")
    scores: Scores = read_json(results)["compare"]
    return scores


def seconds(weights: Path, results: Path) -> dict[str, float]:
    """CPU seconds for an image's masks and their embeddings by each kind of CLIP embedding, one thread; the median."""
    if not results.is_file():
        torch.set_num_threads(1)
        found = {}
        for kind in PASSES.values():
            cfg = load_config(ROOT / CONFIG, ["MODEL.CLIP.MASK_EMBEDDING", kind, "TEST.BATCH_SIZE", "1"])
            prepare_datasets(cfg)
            model = Trainer.build_model(cfg).eval()
            Checkpointer(model).load(str(weights))
            times = []
            for inputs, _ in zip(build_test_loader(cfg, SPLITS["B"]), range(TIMED_IMAGES + 1)):  # noqa: B905
                start = time.process_time()
                model.propose(inputs)
                times.append(time.process_time() - start)
            found[kind] = statistics.median(times[1:])
        write_json(results, found)
    times_by_kind: dict[str, float] = read_json(results)
    return times_by_kind


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    return benchmark_prompts.spread(values, digits=1)


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return f"**{title}**\n\n{text}\n"


Read = Callable[..., str]
"""(model, split, label of a setting, metric="PQ") → the metric over the seeds."""


def tables(read: Read) -> list[str]:
    """Tables 1, 4, 6 and 7."""

    def both(model: str, embedding: str, name: str) -> list[str]:
        return [read(model, split, f"{EMBEDDINGS[embedding]} filter={name}") for split in SPLITS]

    heads = [f"PQ on {split}" for split in SPLITS]
    def unseen(model: str, embedding: str, name: str) -> str:
        return read(model, "B", f"{EMBEDDINGS[embedding]} filter={name}", "PQ_unseen")

    rows = [
        ("2", "CLIP embeddings", "plain", "CLIP", "cls"),
        ("3", "CLIP embeddings, mask filter", "plain", "CLIP", "cls_iou"),
        ("4", "query embeddings", "plain", "query", "cls"),
        ("5", "query embeddings, mask filter", "plain", "query", "cls_iou"),
        ("6", "query embeddings that attend to CLIP, mask filter", "attention", "query", "cls_iou"),
        ("7", "modulated embeddings, mask filter", "attention", "modulated", "cls_iou"),
    ]
    roadmap = [[number, name, *both(*of), unseen(*of)] for number, name, *of in rows]
    sums = [[name, *both("attention", name, "cls_iou")] for name in ("CLIP", "query")]
    for k in SUMS:
        label = f"embedding_sum ratio={k} filter=cls_iou"
        sums.append([f"query + {k}·CLIP", *(read("attention", split, label) for split in SPLITS)])
    sums.append(["embedding fusion", *(read("attention", split, FUSION) for split in SPLITS)])
    sums.append(["fusion and debiasing", *both("attention", "modulated", "cls_iou")])
    grid = [
        [
            f"a = {a}" if a else "no fusion",
            *(read("attention", "B", f"modulation ratio={a} debias={b} filter=cls_iou") for b in DEBIASES),
        ]
        for a in RATIOS
    ]
    filters = [[name, f, *both("attention", name, f)] for name in EMBEDDINGS for f in FILTERS]
    return [
        table("Table 1, roadmap", ["row", "", *heads, "unseen on B"], roadmap),
        table("Table 4, sums and modulation", ["embedding", *heads], sums),
        table("Table 6, PQ on B", ["", *(f"b = {b}" if b else "no debiasing" for b in DEBIASES)], grid),
        table("Table 7, mask filters", ["embedding", "filter", *heads], filters),
    ]


def same_on_training_vocabulary(metrics: Sequence[Scores]) -> str:
    """Whether rows 6 and 7 of Table 1 are equal on the training vocabulary, bit for bit, in all runs."""
    query, modulated = (f"{EMBEDDINGS[name]} filter=cls_iou" for name in ("query", "modulated"))
    equal = all(scores[query] == scores[modulated] for scores in metrics)
    found = [scores[modulated]["PQ"] for scores in metrics]
    return f"Row 7 {'=' if equal else '≠'} row 6 on A, bit for bit: PQ {found}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--output", type=full_path, default=Path("output/tables"))
    args = parser.parse_args(argv)
    output, seeds = args.output.resolve(), args.seeds
    embedding = [f"{EMBEDDINGS['CLIP']} filter=cls_iou"]
    with ThreadPoolExecutor(args.jobs) as pool:
        each = {
            (model, seed): pool.submit(train, CONFIG, options, seed, output / model / str(seed))
            for model, options in MODELS.items()
            for seed in seeds
        }
        weights = {key: training.result() for key, training in each.items()}

        def scored(model: str, split: str, grids: Sequence[str], kind: str = "pooling") -> list[Future[Scores]]:
            options = [*MODELS[model], "MODEL.CLIP.MASK_EMBEDDING", kind]
            places = (CONFIG, options, SPLITS[split], grids, kind)
            return [pool.submit(score, weights[model, seed], *places) for seed in seeds]

        found = {(model, split): scored(model, split, grids) for (model, split), grids in GRIDS.items()}
        for kind in ("masking", "cropping"):
            found |= {(kind, split): scored("attention", split, embedding, kind) for split in SPLITS}
        scores = {key: [job.result() for job in jobs] for key, jobs in found.items()}

    def read(model: str, split: str, label: str, metric: str = "PQ") -> str:
        return spread([values[label][metric] for values in scores[model, split]])

    print(f"{len(seeds)} seeds\n")
    for text in tables(read):
        print(text)
    times = seconds(weights["attention", seeds[0]], output / "seconds.json")
    rows = [
        [
            name,
            *(read("attention" if kind == "pooling" else kind, split, embedding[0]) for split in SPLITS),
            f"{times[kind]:.3f}",
        ]
        for name, kind in PASSES.items()
    ]
    print(table("Table 5, CLIP's embeddings", ["", *(f"PQ on {split}" for split in SPLITS), "s/image"], rows))
    print(same_on_training_vocabulary(scores["attention", "A"]))


if __name__ == "__main__":
    sys.exit(run_command(main))
