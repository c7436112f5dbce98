"""Evaluate a published checkpoint on the test sets that are here, and print the results beside the published ones.

FC-CLIP: --weights is a file of its README, such as fcclip_cocopan.pth, and --backbone the CLIP that it was trained on.
Its authors published the checkpoint that was best on ADE20K, one of the test sets. Numbers of ConvNeXt-L are those of
its test logs (V100), the others those of its README. The test sets are prepared as datasets/README.md says.

With --ensembles the same masks are scored by other ensembles beside FC-CLIP's own, "geometric", on the first of a test
set's tasks; "tta" is FC-CLIP's own under test-time augmentation. The test set is then ADE20K where none is named.

Examples:
    python tools/reproduce.py fcclip --weights weights/fcclip_cocopan.pth
    python tools/reproduce.py fcclip --weights weights/fcclip_cocopan_r50.pth --backbone rn50 --datasets ade20k pc59
    python tools/reproduce.py fcclip --weights weights/fcclip_cocopan.pth --opts DATASETS.CLASS_NAMES ~/fc-clip
    python tools/reproduce.py fcclip --weights weights/fcclip_cocopan.pth --ensembles all
    python tools/reproduce.py fcclip --weights weights/fcclip_cocopan.pth --ensembles mase uniform tta \
        --opts MODEL.ENSEMBLE.MASE.RHO 0.0
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from possam.utils.files import full_path, read_json
from possam.utils.output import run_command

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
TEST_SETS = {
    "ade20k": "eval/ade20k",
    "coco": "eval/coco",
    "cityscapes": "fcclip/eval/cityscapes",
    "mapillary": "fcclip/eval/mapillary",
    "a847": "fcclip/eval/a847",
    "pc59": "fcclip/eval/pc59",
    "pc459": "fcclip/eval/pc459",
    "pas20": "fcclip/eval/pas20",
    "pas21": "fcclip/eval/pas21",
}
TASKS = {"AP": "segm", "mIoU": "sem_seg", "fwIoU": "sem_seg", "mACC": "sem_seg", "pACC": "sem_seg"}  # else panoptic
# FC-CLIP's AP on Cityscapes is cityscapesScripts' and not COCO's: it is left out.
_README = (
    ("ade20k", "PQ"), ("ade20k", "AP"), ("ade20k", "mIoU"), ("cityscapes", "PQ"), ("cityscapes", "mIoU"),
    ("mapillary", "PQ"), ("mapillary", "mIoU"), ("a847", "mIoU"), ("pc59", "mIoU"), ("pc459", "mIoU"),
    ("pas21", "mIoU"), ("pas20", "mIoU"), ("coco", "PQ"), ("coco", "AP"), ("coco", "mIoU"),
)  # fmt: skip
_ROWS = {
    "rn50": (17.9, 9.5, 23.3, 40.3, 53.2, 15.9, 24.4, 7.1, 50.5, 12.9, 75.9, 89.5, 50.7, 40.7, 58.8),
    "rn101": (19.1, 10.2, 24.0, 40.9, 53.9, 16.7, 23.2, 7.7, 48.9, 12.3, 77.6, 91.3, 51.4, 41.6, 58.9),
    "rn50x4": (21.8, 11.7, 26.8, 42.2, 54.6, 17.4, 24.6, 8.7, 54.0, 13.1, 79.0, 92.9, 52.1, 42.8, 60.4),
    "rn50x16": (22.5, 13.6, 29.4, 42.0, 56.0, 17.8, 26.1, 10.3, 56.4, 15.7, 80.7, 94.5, 54.4, 45.0, 63.3),
    "rn50x64": (22.8, 13.6, 28.4, 42.7, 55.1, 18.2, 27.3, 10.8, 55.7, 16.2, 80.3, 95.1, 55.6, 46.4, 65.3),
}
_LOGS = {
    "ade20k": {
        "PQ": 26.7882, "SQ": 71.5713, "RQ": 32.3416, "PQ_th": 25.1393, "PQ_st": 30.0858, "AP": 16.8234,
        "mIoU": 34.0658, "fwIoU": 59.8906, "mACC": 54.2278, "pACC": 70.9164,
    },
    "coco": {
        "PQ": 54.4289, "SQ": 83.0355, "RQ": 64.8353, "PQ_th": 60.3066, "PQ_st": 45.5569, "AP": 44.5717, "mIoU": 63.7191,
    },
    "cityscapes": {"PQ": 44.0380, "PQ_th": 36.6796, "PQ_st": 49.3895, "mIoU": 56.2381},
    "mapillary": {"PQ": 18.2711, "mIoU": 27.7947},
    "a847": {"mIoU": 14.7898},
    "pc59": {"mIoU": 58.3628},
    "pc459": {"mIoU": 18.2437},
    "pas20": {"mIoU": 95.3521},
    "pas21": {"mIoU": 81.7655},
}  # fmt: skip
BACKBONES = ("convnext_large", *_ROWS)
OWN, TTA = "geometric", "tta"  # FC-CLIP's ensemble, and the same over several views of an image


def published(backbone: str) -> dict[str, dict[str, float]]:
    """FC-CLIP's published numbers in percent, by test set and metric."""
    if backbone == "convnext_large":
        return _LOGS
    numbers: dict[str, dict[str, float]] = {name: {} for name in TEST_SETS}
    for (name, metric), value in zip(_README, _ROWS[backbone], strict=True):
        numbers[name][metric] = value
    return numbers


def evaluate(
    name: str, args: argparse.Namespace, ensembles: Sequence[str] = (), views: bool = False
) -> dict[str, Any] | None:
    """What results.json says of one test set, evaluated now; None where its data are not here.

    Args:
        ensembles: scored beside FC-CLIP's own, on the first task.
        views: under test-time augmentation.
    """
    from possam.cli.job import run_job
    from possam.d2.data import DatasetCatalog
    from possam.engine import load_config, prepare_datasets

    files = [str(CONFIGS / f"fcclip/{args.backbone}.yaml"), str(CONFIGS / f"{TEST_SETS[name]}.yaml")]
    output = args.output / args.backbone / (f"{name}_{TTA}" if views else name)
    options = ["MODEL.WEIGHTS", str(args.weights), *args.opts, "OUTPUT_DIR", str(output)]
    options += ["TEST.ENSEMBLES", str(list(ensembles)), "TEST.AUG.ENABLED", str(views)] if args.ensembles else []
    cfg = load_config(files, options)
    prepare_datasets(cfg)
    (dataset,) = cfg.DATASETS.TEST
    try:
        DatasetCatalog.get(dataset)
    except FileNotFoundError:
        return None
    job = {"config_file": files, "opts": options, "eval_only": True, "resume": False, "num_gpus": args.num_gpus}
    run_job(argparse.Namespace(**job, num_machines=1, machine_rank=0, dist_url="auto"))
    return read_json(output / "evaluation" / dataset / "results.json")


def compare(name: str, expected: dict[str, float], results: dict[str, Any] | None) -> Iterator[list[Any]]:
    """Rows of test set, images, metric, published and own number, and the difference."""
    from possam.data.datasets import SPECS

    if results is None:
        yield [name, "not here"]
        return
    about = results["dataset"]
    official = SPECS[about["name"]].images
    images = f"{about['images']}" if about["images"] == official else f"{about['images']} of {official}"
    for metric, value in expected.items():
        own = results.get(TASKS.get(metric, "panoptic_seg"), {}).get(metric)
        yield [name, images, metric, value, own, None if own is None else own - value]


def compare_ensembles(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of a test set, one an ensemble, with the metrics of its first task in percent."""
    from possam.evaluation import find_task

    others = [ensemble for ensemble in args.ensembles if ensemble not in (OWN, TTA)]
    results = evaluate(name, args, others)
    if results is None:
        yield {"test set": name, "ensemble": "not here"}
        return
    task = find_task(results["dataset"]["tasks"][0]).result
    for ensemble, metrics in {OWN: results[task], **results.get("compare", {})}.items():
        yield {"test set": name, "ensemble": ensemble, **metrics}
    if TTA in args.ensembles:
        of_views = evaluate(name, args, views=True)
        assert of_views is not None
        yield {"test set": name, "ensemble": f"{OWN}, {TTA}", **of_views[task]}


def reproduce(args: argparse.Namespace) -> list[str]:
    """Print the published numbers beside our own, and return the test sets that are not here."""
    numbers = published(args.backbone)
    rows: list[list[Any]] = []
    try:
        for name in args.datasets:
            rows += compare(name, numbers[name], evaluate(name, args))
    finally:  # an error in the last test set does not hide the others
        headers = ["test set", "images", "metric", "published", "ours", "difference"]
        formats = ("", "", "", ".4f", ".4f", "+.4f")
        print(f"\n{tabulate(rows, headers=headers, tablefmt='github', floatfmt=formats)}\n")
    return [row[0] for row in rows if row[1] == "not here"]


def score_ensembles(args: argparse.Namespace) -> list[str]:
    """Print what each ensemble makes of the same masks, and return the test sets that are not here."""
    rows: list[dict[str, Any]] = []
    try:
        for name in args.datasets:
            rows += compare_ensembles(name, args)
    finally:
        print(f"\n{tabulate(rows, headers='keys', tablefmt='github', floatfmt='.2f')}\n")
    return [row["test set"] for row in rows if row["ensemble"] == "not here"]


def main(arguments: Sequence[str] | None = None) -> None:
    # Convolutions in TF32 would change the last of the four digits; to be set before CUDA starts.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    from possam.classifiers import ENSEMBLE_REGISTRY

    every = [*ENSEMBLE_REGISTRY, TTA]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=["fcclip"])
    parser.add_argument("--weights", type=full_path, required=True, metavar="FILE", help="the published checkpoint")
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES[0], help="(default: %(default)s)")
    parser.add_argument("--datasets", nargs="+", choices=TEST_SETS, help="(default: all; with --ensembles ade20k)")
    parser.add_argument(
        "--ensembles", nargs="+", choices=[*every, "all"], default=[], help="score these instead of published numbers"
    )
    parser.add_argument("--num-gpus", type=int, default=1)
    parser.add_argument("--output", type=full_path, default=Path("output/reproduce"), metavar="DIR")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="settings, last")
    args = parser.parse_args(arguments)
    if not args.weights.is_file():
        raise FileNotFoundError(f"There is no file {args.weights}; FC-CLIP's README says where its checkpoints are.")
    args.datasets = args.datasets or (["ade20k"] if args.ensembles else list(TEST_SETS))
    args.ensembles = every if "all" in args.ensembles else args.ensembles
    missing = score_ensembles(args) if args.ensembles else reproduce(args)
    if set(missing) == set(args.datasets):
        raise FileNotFoundError(
            f"None of {', '.join(args.datasets)} is here; prepare one as datasets/README.md says, and name the folder "
            "as DETECTRON2_DATASETS."
        )


if __name__ == "__main__":
    from possam.cli.job import JOB_ERRORS, sentence

    try:
        sys.exit(run_command(main))
    except JOB_ERRORS as error:
        sys.exit(f"error: {sentence(error)}")
