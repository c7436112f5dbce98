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
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from pathlib import Path

import torch
from benchmark_runs import (
    ROOT,
    Scores,
    check_data,
    finished,
    keep,
    parse_run_options,
    run_benchmark,
    score,
    spread,
    table,
    train,
)

from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets
from possam.engine.trainer import build_test_loader
from possam.utils.files import read_json, write_json

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


def seconds(weights: Path) -> dict[str, float]:
    """CPU seconds for an image's masks and their embeddings by each kind of CLIP embedding, one thread; the median."""
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
    return found


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
    args = parse_run_options(parser, argv, output="output/tables")
    output, seeds = args.output, args.seeds
    check_data((CONFIG, ["DATASETS.TEST", f"['{split}']"]) for split in SPLITS.values())
    embedding = [f"{EMBEDDINGS['CLIP']} filter=cls_iou"]
    with ThreadPoolExecutor(args.jobs) as pool:
        each = {
            (model, seed): pool.submit(train, CONFIG, options, seed, output / model / str(seed))
            for model, options in MODELS.items()
            for seed in seeds
        }
        weights = finished(pool, each)

        def start(model: str, seed: int, split: str, grids: Sequence[str], kind: str = "pooling") -> Future[Scores]:
            options = [*MODELS[model], "MODEL.CLIP.MASK_EMBEDDING", kind]
            return pool.submit(score, weights[model, seed], CONFIG, options, SPLITS[split], grids, kind)

        found = {(*key, seed): start(key[0], seed, key[1], grids) for key, grids in GRIDS.items() for seed in seeds}
        for kind, split, seed in product(("masking", "cropping"), SPLITS, seeds):
            found[kind, split, seed] = start("attention", seed, split, embedding, kind)
        scores = finished(pool, found)

    def read(model: str, split: str, label: str, metric: str = "PQ") -> str:
        return spread([scores[model, split, seed][label][metric] for seed in seeds])

    print(f"{len(seeds)} seeds\n")
    for text in tables(read):
        print(text)
    first, path = weights["attention", seeds[0]], output / "seconds.json"
    keep(path, CONFIG, ["MODEL.WEIGHTS", str(first)], lambda: write_json(path, seconds(first)))
    times = read_json(path)
    rows = [
        [
            name,
            *(read("attention" if kind == "pooling" else kind, split, embedding[0]) for split in SPLITS),
            f"{times[kind]:.3f}",
        ]
        for name, kind in PASSES.items()
    ]
    print(table("Table 5, CLIP's embeddings", ["", *(f"PQ on {split}" for split in SPLITS), "s/image"], rows))
    print(same_on_training_vocabulary([scores["attention", "A", seed] for seed in seeds]))


if __name__ == "__main__":
    run_benchmark(main)
