"""Scores a model on one dataset, with several ensembles on the same forward passes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from possam.d2.config import CfgNode
from possam.d2.evaluation import DatasetEvaluators, inference_context
from possam.d2.utils import comm
from possam.evaluation import build_evaluators, format_comparison, format_table
from possam.files import write_json
from possam.models import PosSAM

logger = logging.getLogger(__name__)


def evaluate(cfg: CfgNode, model: PosSAM, dataset: str, loader: Any) -> dict[str, Any]:
    """Score `model` on `dataset`: `MODEL.ENSEMBLE` on all `TEST.TASKS`, the `TEST.COMPARE` on panoptic alone.

    Prints the tables; writes predictions and `results.json` under OUTPUT_DIR/evaluation/<dataset>.

    Returns:
        Metrics by task, and under "compare" the panoptic metrics of every ensemble. Empty but on the main process.
    """
    folder = Path(cfg.OUTPUT_DIR) / "evaluation" / dataset
    tasks: dict[str, tuple[str, ...]] = {name: ("panoptic",) for name in cfg.TEST.COMPARE}
    tasks[cfg.MODEL.ENSEMBLE.NAME] = tuple(cfg.TEST.TASKS)
    evaluators = {
        name: build_evaluators(
            dataset,
            tasks=wanted,
            train_vocabulary=model.train_vocabulary,
            output_dir=folder if name == cfg.MODEL.ENSEMBLE.NAME else None,
        )
        for name, wanted in tasks.items()
    }
    _predict(model, loader, evaluators, tasks)
    results = {name: evaluator.evaluate() for name, evaluator in evaluators.items()}
    return _report(results, cfg.MODEL.ENSEMBLE.NAME, dataset, folder) if comm.is_main_process() else {}


def _predict(
    model: PosSAM, loader: Any, evaluators: dict[str, DatasetEvaluators], tasks: dict[str, tuple[str, ...]]
) -> None:
    """Run the model over the loader once, and let every evaluator see its ensemble's outputs."""
    for evaluator in evaluators.values():
        evaluator.reset()
    batches = track(loader, "Evaluating", transient=True, disable=not comm.is_main_process())
    with inference_context(model), torch.no_grad():
        for inputs in batches:
            predictions = model.predict(inputs)
            for name, evaluator in evaluators.items():
                outputs = [model.segment(prediction, name, tasks[name]) for prediction in predictions]
                evaluator.process(inputs, outputs)


def _report(results: dict[str, dict[str, Any]], ensemble: str, dataset: str, folder: Path) -> dict[str, Any]:
    """Print the tables, write results.json, and return its content."""
    report = dict(results[ensemble])
    print(f"\n{dataset}, {ensemble}\n\n{format_table(report)}\n\n{format_comparison(results)}\n")
    if len(results) > 1:
        report["compare"] = {name: result["panoptic_seg"] for name, result in results.items()}
    write_json(folder / "results.json", report)
    logger.info("Results and predictions are in %s", folder)
    return report
