"""The tables of Open-Vocabulary SAM on the miniature world over several seeds, as mean ± standard deviation.

Trains every (variant, seed) with train_net.py (both modes, ablations and baselines) and evaluates it on the things of
the report split of vocabulary B: mean IoU and accuracy of points and of boxes, and the error of SAM2CLIP on these
images. What is in the output folder already is not done again.

Example:
    python tools/benchmark_prompts.py --seeds 1 2 3 --jobs 2 --output output/benchmark_prompts
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from possam.utils.files import full_path, read_json, write_json
from possam.utils.output import run_command

ROOT = Path(__file__).resolve().parent.parent


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


def run_tool(command: Sequence[str], log: Path) -> None:
    """Run one of the tools; what it prints is appended to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=file, stderr=subprocess.STDOUT)


def train_net(config: str, overrides: list[str], folder: Path, weights: Path | None) -> dict[str, Any]:
    """The results: those that are there, or of the trained model that is there, or of a training now.

    Args:
        weights: checkpoint that it writes, or that is there to be evaluated; None where nothing is trained.
    """
    results = folder / "evaluation" / DATASET / "results.json"
    if not results.is_file():
        command = ["tools/train_net.py", "--config-file", config]
        if weights is None or weights.is_file():
            overrides = [*overrides, "MODEL.WEIGHTS", str(weights or "")]
            command.append("--eval-only")
        command += [*overrides, "OUTPUT_DIR", str(folder)]
        run_tool(command, folder / "stdout.txt")
    content: dict[str, Any] = read_json(results)
    return content


def run_prompted(variant: str, seed: int, output: Path) -> dict[str, Any]:
    """Results of one run with prompts: metrics by kind of prompt and, of a run that trains SAM2CLIP, its "student"."""
    chosen, folder = PROMPTED[variant], run_folder(output, variant, seed)
    weights = folder / "model_final.pth" if chosen.trained else None
    shared = [*chosen.overrides, "SEED", str(seed), "DATASETS.TEST", f"('{DATASET}',)"]
    shared += ["TEST.NUM_VISUALIZATIONS", "0"]
    if chosen.trained:
        shared += ["INPUT.FEATURE_CACHE_DIR", str(output / "features")]
    if chosen.sam2clip:
        shared += ["MODEL.SAM2CLIP.WEIGHTS", str(run_folder(output, chosen.sam2clip, seed) / "model_final.pth")]
    found = {}
    for kind in PROMPT_KINDS:  # the first one trains
        place = folder if kind == PROMPT_KINDS[0] else folder / kind
        overrides = [*shared, "TEST.PROMPTED.KIND", kind]
        found[kind] = train_net(chosen.config, overrides, place, weights)["prompted"]
    if chosen.config == _SAM2CLIP:
        found["student"] = student_error(folder)
    return found


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
    return {
        variant: [future.result() for (name, _), future in futures.items() if name == variant] for variant in variants
    }


def student_error(folder: Path) -> dict[str, float]:
    """"mse" of SAM2CLIP to its teacher on the test images, and the teacher's "variance": the error of its mean."""
    path = folder / "student.json"
    if not path.is_file():
        import torch

        from possam.d2.data import DatasetCatalog
        from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets
        from possam.engine.datasets import build_test_mapper

        cfg = load_config(str(folder / "config.yaml"), [])
        prepare_datasets(cfg)
        model: Any = Trainer.build_model(cfg).eval()
        Checkpointer(model).load(str(folder / "model_final.pth"))
        mapper = build_test_mapper(cfg, model.train_vocabulary)
        error, teachers = 0.0, []
        records = DatasetCatalog.get(DATASET)
        for record in records:
            features = model.encode([mapper(record)["image"]])
            (teacher,) = features["sam"].values()
            with torch.no_grad():
                error += float((model.sam2clip(features["clip"]) - teacher).square().mean()) / len(records)
            teachers.append(teacher)
        write_json(path, {"mse": error, "variance": float(torch.cat(teachers).var(dim=(0, 2, 3)).mean())})
    content: dict[str, float] = read_json(path)
    return content


def run_folder(output: Path, variant: str, seed: int) -> Path:
    """The folder of a run, with the characters of the variant's name that any file may have."""
    return output / "".join(c for c in variant.replace(" ", "_") if c.isalnum() or c in "_+-") / str(seed)


def prompted_tables(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Mean IoU and accuracy of points and of boxes over the runs of each variant, and the error of SAM2CLIP."""
    groups = ["", "_base", "_novel", "_small", "_medium", "_large"]
    columns = [metric + group for metric in ("mIoU", "accuracy") for group in groups]
    parts = []
    for kind in PROMPT_KINDS:
        rows = [
            [variant, *(spread([run[kind][column] for run in found]) for column in columns)]
            for variant, found in runs.items()
        ]
        parts.append(f"**{kind}**\n\n{tabulate(rows, headers=['', *columns], tablefmt='github')}\n")
    students = {variant: [run["student"] for run in found] for variant, found in runs.items() if "student" in found[0]}
    rows = []
    for variant, found in students.items():
        mse, variance = ([run[key] for run in found] for key in ("mse", "variance"))
        shares = [100 * error / whole for error, whole in zip(mse, variance, strict=True)]
        rows.append([variant, *(spread(values, digits=4) for values in (mse, variance)), spread(shares)])
    if rows:
        headers = ["", "MSE", "teacher's variance", "MSE in % of it"]
        parts.append(f"**error of SAM2CLIP**\n\n{tabulate(rows, headers=headers, tablefmt='github')}\n")
    return "\n".join(parts)


def spread(values: Sequence[float | None], *, digits: int = 2) -> str:
    """Mean ± standard deviation of the values that are known; "–" where none is."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{statistics.mean(known):.{digits}f} ± {statistics.stdev(known):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--variants", nargs="+", choices=list(PROMPTED), default=list(PROMPTED), metavar="NAME",
                        help=f"some of {', '.join(PROMPTED)}")  # fmt: skip
    parser.add_argument("--output", type=full_path, default=Path("output/benchmark_prompts"))
    args = parser.parse_args()
    output = args.output.resolve()
    with ThreadPoolExecutor(args.jobs) as pool:
        print(prompted_tables(run_all_prompted(pool, args.variants, args.seeds, output)))


if __name__ == "__main__":
    sys.exit(run_command(main))
