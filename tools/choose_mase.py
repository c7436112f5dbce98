"""Choose MASE's constants on a selection split, never on the one that is reported (METHOD.md 1.9).

Every run given predicts the split once; then each combination of constants is scored on its masks and logits.
Prints the PQ of every ensemble and of fixed weights of CLIP with the runs' own thresholds and constants, then the best
combinations by the PQ of all classes, averaged over the runs.

Example:
    python tools/choose_mase.py output/mini output/bench/weak_CLIP/1 output/bench/weak_CLIP/2
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from tabulate import tabulate

from possam.classifiers import ClassificationInputs, build_ensemble, ensemble_constants
from possam.classifiers.ensembles import ENSEMBLE_REGISTRY
from possam.d2.data import MetadataCatalog
from possam.d2.utils import setup_logger
from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets
from possam.engine.trainer import build_test_loader
from possam.evaluation import build_evaluators
from possam.inference import MaskGrid, merge_panoptic
from possam.utils.files import full_path
from possam.utils.output import run_command

GRID: dict[str, list[Any]] = {
    "rule": ["posterior", "ldp"],
    "alpha": [0.0, 0.1, 0.2, 0.4, 0.5],
    "beta": [0.6, 0.7, 0.8, 1.0],
    "gamma": [0.5, 1.0, 2.0],
    "rho": [0.0, 0.5, 1.0],
    "kappa": [1.0, 2.0, 3.0],
    "eta": [0.0, 0.25, 0.5, 1.0],
    "object_threshold": [0.05, 0.1, 0.2],
    "overlap_threshold": [0.6, 0.7, 0.8],
}
"""Combinations to try; both thresholds are the merging's (METHOD.md 1.10)."""
FIXED = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_THRESHOLDS = ("object_threshold", "overlap_threshold")


class SelectionRun:
    """A trained model's masks on the selection split, and what ensembles read of them.

    Raises:
        ValueError: the run's scores go through a mask filter, whose IoU takes the place of η.
    """

    def __init__(self, folder: Path, dataset: str) -> None:
        cfg = load_config(folder / "config.yaml", ["MODEL.WEIGHTS", str(folder / "model_final.pth")])
        if cfg.TEST.MASK_FILTER:
            raise ValueError(
                f"{folder / 'config.yaml'} has TEST.MASK_FILTER {cfg.TEST.MASK_FILTER!r}, which would be left out "
                "here; set it to '' there, or try constants with tools/sweep.py."
            )
        prepare_datasets(cfg)
        model = Trainer.build_model(cfg).eval()
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
        merging = cfg.MODEL.MASK_FORMER.TEST
        self.thresholds: dict[str, float] = {
            "object_threshold": merging.OBJECT_MASK_THRESHOLD,
            "overlap_threshold": merging.OVERLAP_THRESHOLD,
        }
        self.configured = cfg.MODEL.ENSEMBLE
        self.dataset, self.train_vocabulary = dataset, model.train_vocabulary
        self.images: list[tuple[dict[str, Any], MaskGrid, ClassificationInputs]] = []
        for inputs in track(build_test_loader(cfg, dataset), str(folder), transient=True):
            for one, prediction in zip(inputs, model.predict(inputs), strict=True):
                self.images.append((one, prediction.masks, prediction.inputs))

    def score(self, ensemble: str, constants: dict[str, Any], thresholds: dict[str, float]) -> dict[str, float]:
        """Panoptic metrics of one ensemble, masks merged by these thresholds.

        Args:
            constants: the others are those of the run's `MODEL.ENSEMBLE`.
        """
        post_processor = build_ensemble(ensemble, **ensemble_constants(self.configured, ensemble) | constants)
        evaluator = build_evaluators(
            self.dataset, tasks=("panoptic",), train_vocabulary=self.train_vocabulary, output_dir=None
        )
        evaluator.reset()
        isthing = MetadataCatalog.get(self.dataset).vocabulary.isthing
        for one, masks, inputs in self.images:
            segmentation = merge_panoptic(post_processor(inputs), masks, isthing, **thresholds)
            evaluator.process([one], [{"panoptic_seg": segmentation}])
        return evaluator.evaluate()["panoptic_seg"]


def combinations(samples: int, seed: int) -> Iterator[dict[str, Any]]:
    """`samples` random combinations of `GRID`, each once; alpha never exceeds beta."""
    every = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    for index in np.random.default_rng(seed).permutation(len(every))[:samples]:
        yield every[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=full_path, nargs="+", help="output folders of finished runs")
    parser.add_argument("--dataset", default="mini_b_selection")
    parser.add_argument("--samples", type=int, default=200, help="combinations to try")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    setup_logger(name="possam")
    runs = [SelectionRun(folder, args.dataset) for folder in args.runs]
    others: dict[str, tuple[str, dict[str, Any]]] = {f"{name} as configured": (name, {}) for name in ENSEMBLE_REGISTRY}
    others |= {f"fixed λ = {weight}": ("mase", {"alpha": weight, "beta": weight}) for weight in FIXED}
    for label, (name, constants) in others.items():
        results = [run.score(name, constants, run.thresholds) for run in runs]
        print(f"{label}:", ", ".join(f"{result['PQ']:.2f}" for result in results), flush=True)
    tried = []
    for combination in track(list(combinations(args.samples, args.seed)), "Combinations", transient=True):
        thresholds = {key: combination[key] for key in _THRESHOLDS}
        constants = {key: value for key, value in combination.items() if key not in _THRESHOLDS}
        results = [run.score("mase", constants, thresholds) for run in runs]
        metrics = [np.mean([result[key] for result in results]) for key in ("PQ", "PQ_seen", "PQ_unseen")]
        tried.append([*combination.values(), *metrics])
    tried.sort(key=lambda row: -row[-3])
    print(tabulate(tried[:15], headers=[*GRID, "PQ", "PQ_seen", "PQ_unseen"], floatfmt=".2f"))


if __name__ == "__main__":
    try:
        sys.exit(run_command(main))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
