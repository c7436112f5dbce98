"""Scores a model on one dataset, with several ensembles on the same forward passes."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from possam.d2.config import CfgNode
from possam.d2.evaluation import DatasetEvaluators, inference_context
from possam.d2.utils import comm
from possam.engine.pictures import PictureBook
from possam.evaluation import build_evaluators, format_comparison, format_table
from possam.models import PosSAM

logger = logging.getLogger(__name__)


def evaluate(cfg: CfgNode, model: PosSAM, dataset: str, loader: Any) -> dict[str, Any]:
    """Score `model` on `dataset` with `MODEL.ENSEMBLE` for all `TEST.TASKS`, and with `TEST.COMPARE` for panoptic.

    Prints the tables, writes predictions and `results.json` under OUTPUT_DIR/evaluation/<dataset>.

    Returns:
        Metrics by task, and under "compare" the panoptic metrics of every ensemble. Empty but on the main process.
    """
    folder = Path(cfg.OUTPUT_DIR) / "evaluation" / dataset
    ensembles = list(dict.fromkeys([cfg.MODEL.ENSEMBLE.NAME, *cfg.TEST.COMPARE]))
    evaluators = {
        name: build_evaluators(
            dataset,
            tasks=tuple(cfg.TEST.TASKS) if name == cfg.MODEL.ENSEMBLE.NAME else ("panoptic",),
            train_vocabulary=model.train_vocabulary,
            output_dir=folder if name == cfg.MODEL.ENSEMBLE.NAME else None,
        )
        for name in ensembles
    }
    _run(model, loader, evaluators, cfg)
    results = {name: evaluator.evaluate() for name, evaluator in evaluators.items()}
    if not comm.is_main_process():
        return {}
    main = dict(results[cfg.MODEL.ENSEMBLE.NAME])
    print(format_table(main, title=f"{dataset}, {cfg.MODEL.ENSEMBLE.NAME}"))
    if len(ensembles) > 1:
        main["compare"] = {name: result["panoptic_seg"] for name, result in results.items()}
        print(format_comparison(main["compare"], title=f"{dataset}: ensembles on the same masks"))
    _write_json(folder / "results.json", main)
    return main
