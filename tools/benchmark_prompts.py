"""The tables of Open-Vocabulary SAM on the miniature world over several seeds, as mean ± standard deviation.

Trains every (variant, seed) with train_net.py (both modes, ablations and baselines) and evaluates it on the things of
the report split of vocabulary B: mean IoU and accuracy of points and of boxes, and the error of SAM2CLIP on these
images. What is in the output folder already is not done again.

Example:
    python tools/benchmark_prompts.py --seeds 1 2 3 --jobs 2 --output output/benchmark_prompts
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmark_runs import (
    ROOT,
    check_data,
    finished,
    keep,
    parse_run_options,
    run_benchmark,
    run_folder,
    run_tool,
    spread,
    train,
)
from tabulate import tabulate

from possam.d2.data import DatasetCatalog
from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets
from possam.engine.datasets import build_test_mapper
from possam.utils.files import read_json, write_json


class Prompted(NamedTuple):
    """A variant with prompts.

    sam2clip: the variant whose SAM2CLIP it starts from; "" where it trains its own, or has none.
    trained: whether there is anything to train; else it is the same for all seeds.
    """

    config: str
    overrides: list[str]
    sam2clip: str = ""
    trained: bool = True


DATASET = "mini_12_14_report"
_TEST = ["DATASETS.TEST", f"['{DATASET}']"]
PROMPT_KINDS = ("point", "box")
_SAM2CLIP, _CLIP2SAM, _BASELINE = (f"configs/mini/{name}.yaml" for name in ("ovsam_sam2clip", "ovsam", "sam_clip"))
_PUBLISHED = ["MODEL.OVSAM.MODE", "published", "MODEL.OVSAM.PIXEL_STATISTICS", "clip"]  # over the same SAM2CLIP
PROMPTED: dict[str, Prompted] = {
    "SAM2CLIP only": Prompted(_SAM2CLIP, []),
    "SAM2CLIP only, one level": Prompted(_SAM2CLIP, ["MODEL.SAM2CLIP.LEVELS", "[8]"]),
    "+ class token": Prompted(_CLIP2SAM, ["MODEL.OVSAM.CLASS_EMBEDDING", "label"], "SAM2CLIP only"),
    "+ RoI": Prompted(_CLIP2SAM, ["MODEL.OVSAM.CLASS_EMBEDDING", "roi"], "SAM2CLIP only"),
    "+ both: possam": Prompted(_CLIP2SAM, [], "SAM2CLIP only"),
    "published": Prompted(_CLIP2SAM, _PUBLISHED, "SAM2CLIP only"),
    "SAM, CLIP on crops": Prompted(_BASELINE, [], trained=False),
    "SAM, CLIP's features": Prompted(_BASELINE, ["MODEL.SAM_CLIP.REGION", "features"], trained=False),
}


def prompted_configs(variants: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Configuration and options of the variants, and of what they start from."""
    chosen = [PROMPTED[name] for variant in variants for name in (PROMPTED[variant].sam2clip, variant) if name]
    return [(one.config, [*one.overrides, *_TEST]) for one in chosen]


def run_prompted(variant: str, seed: int, output: Path) -> dict[str, Any]:
    """Results of one run with prompts: metrics by kind of prompt and, of a run that trains SAM2CLIP, its "student"."""
    chosen, folder = PROMPTED[variant], run_folder(output, variant, seed)
    options = list(chosen.overrides)
    if chosen.trained:
        options += ["INPUT.FEATURE_CACHE_DIR", str(output / "features")]
    if chosen.sam2clip:
        options += ["MODEL.SAM2CLIP.WEIGHTS", str(run_folder(output, chosen.sam2clip, seed) / "model_final.pth")]
    weights = str(train(chosen.config, options, seed, folder)) if chosen.trained else ""
    trained = [*options, "MODEL.WEIGHTS", weights]
    found = {kind: evaluate(chosen.config, trained, folder / kind, kind) for kind in PROMPT_KINDS}
    if chosen.config == _SAM2CLIP:
        path = folder / "student.json"
        test = [*trained, *_TEST]
        keep(path, chosen.config, test, lambda: write_json(path, student_error(chosen.config, test)))
        found["student"] = read_json(path)
    return found


def evaluate(config: str, options: Sequence[str], folder: Path, kind: str) -> dict[str, Any]:
    """Metrics of a model for prompts of this kind."""
    results = folder / "evaluation" / DATASET / "results.json"
    options = [*options, *_TEST, "TEST.PROMPTED.KIND", kind, "TEST.NUM_VISUALIZATIONS", "0", "OUTPUT_DIR", str(folder)]
    command = ["tools/train_net.py", "--config-file", config, "--eval-only", *options]
    keep(results, config, options, lambda: run_tool(command, folder / "stdout.txt"))
    metrics: dict[str, Any] = read_json(results)["prompted"]
    return metrics


def run_all_prompted(
    pool: Executor, variants: list[str], seeds: list[int], output: Path
) -> dict[str, list[dict[str, Any]]]:
    """Results of all seeds of the variants; what they start from is trained before, once for all of them."""
    needed = dict.fromkeys(PROMPTED[variant].sam2clip for variant in variants if PROMPTED[variant].sam2clip)
    futures: dict[tuple[str, int], Future[dict[str, Any]]] = {}

    def start(variant: str, seed: int) -> dict[str, Any]:
        if before := PROMPTED[variant].sam2clip:
            futures[before, seed].result()
        return run_prompted(variant, seed, output)

    # A run that waits for another comes after it, so that the pool is never full of waiting ones.
    for variant in sorted(dict.fromkeys([*needed, *variants]), key=lambda name: bool(PROMPTED[name].sam2clip)):
        for seed in seeds if PROMPTED[variant].trained else seeds[:1]:
            futures[variant, seed] = pool.submit(start, variant, seed)
    results = finished(pool, futures)
    return {variant: [result for (name, _), result in results.items() if name == variant] for variant in variants}


def student_error(config: str, options: Sequence[str]) -> dict[str, float]:
    """"mse" of SAM2CLIP to its teacher on the test images, and the teacher's "variance": the error of its mean."""
    cfg = load_config(ROOT / config, options)
    prepare_datasets(cfg)
    model: Any = Trainer.build_model(cfg).eval()
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    mapper = build_test_mapper(cfg, model.train_vocabulary)
    error, teachers = 0.0, []
    records = DatasetCatalog.get(DATASET)
    for record in records:
        features = model.encode([mapper(record)["image"]])
        (teacher,) = features["sam"].values()
        with torch.no_grad():
            error += float((model.sam2clip(features["clip"]) - teacher).square().mean()) / len(records)
        teachers.append(teacher)
    return {"mse": error, "variance": float(torch.cat(teachers).var(dim=(0, 2, 3)).mean())}


def prompted_tables(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Mean IoU and accuracy of points and of boxes over the runs of each variant, and the error of SAM2CLIP."""
    groups = ["", "_base", "_novel", "_small", "_medium", "_large"]
    columns = [metric + group for metric in ("mIoU", "accuracy") for group in groups]
    parts = []
    for kind in PROMPT_KINDS:
        rows = [
            [variant, *(spread([run[kind][column] for run in found], digits=2) for column in columns)]
            for variant, found in runs.items()
        ]
        parts.append(f"**{kind}**\n\n{tabulate(rows, headers=['', *columns], tablefmt='github')}\n")
    students = {variant: [run["student"] for run in found] for variant, found in runs.items() if "student" in found[0]}
    rows = []
    for variant, found in students.items():
        mse, variance = ([run[key] for run in found] for key in ("mse", "variance"))
        shares = [100 * error / whole for error, whole in zip(mse, variance, strict=True)]
        rows.append([variant, *(spread(values, digits=4) for values in (mse, variance)), spread(shares, digits=2)])
    if rows:
        headers = ["", "MSE", "teacher's variance", "MSE in % of it"]
        parts.append(f"**error of SAM2CLIP**\n\n{tabulate(rows, headers=headers, tablefmt='github')}\n")
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=list(PROMPTED), default=list(PROMPTED), metavar="NAME",
                        help=f"some of {', '.join(map(repr, PROMPTED))}")  # fmt: skip
    args = parse_run_options(parser, argv, output="output/benchmark_prompts")
    check_data(prompted_configs(args.variants))
    with ThreadPoolExecutor(args.jobs) as pool:
        print(prompted_tables(run_all_prompted(pool, args.variants, args.seeds, args.output)))


if __name__ == "__main__":
    run_benchmark(main)
