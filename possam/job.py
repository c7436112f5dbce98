"""The main job: train a model and evaluate it, or evaluate one, from a configuration; in one process or in several."""

from __future__ import annotations

import argparse
import builtins
from functools import partial
from pathlib import Path

from torch.multiprocessing import ProcessRaisedException

from possam.cases import draw_cases
from possam.d2.config import CfgNode
from possam.d2.engine import default_setup
from possam.d2.utils import comm, setup_logger
from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets, run, unwrap
from possam.report import write_report

__all__ = ["JOB_ERRORS", "run_job", "sentence"]

JOB_ERRORS = (ValueError, OSError, FloatingPointError)
"""What a job that cannot be done raises, with a `sentence` for a person."""


def run_job(args: argparse.Namespace) -> None:
    """Run the job in the processes that `args` or `torchrun`'s environment asks for.

    Args:
        args: as Detectron2's `default_argument_parser` gives them: config_file, opts, resume, eval_only, num_gpus,
            num_machines, machine_rank, dist_url; and perhaps report: write an HTML page of every evaluation.

    Raises:
        ValueError, OSError, FloatingPointError: the job cannot be done; `sentence` says why.
    """
    cfg = _read(args)  # what is wrong with it is said here, before any process starts
    try:
        run(partial(_work, cfg), args)
    except ProcessRaisedException as error:
        kind, _, reason = str(error).strip().splitlines()[-1].partition(": ")
        if not issubclass(getattr(builtins, kind, object), JOB_ERRORS):
            raise
        raise ValueError(reason) from error


def sentence(error: BaseException) -> str:
    """An error in one sentence; that of a data loader's process comes wrapped in its traceback, with it at the end."""
    text = str(error)
    return text.strip().splitlines()[-1] if "Original Traceback" in text else text


def _read(args: argparse.Namespace) -> CfgNode:
    cfg = load_config(args.config_file, args.opts)
    prepare_datasets(cfg)
    if args.eval_only and not cfg.MODEL.WEIGHTS:
        raise ValueError("--eval-only needs trained parameters; add `MODEL.WEIGHTS <path to model_final.pth>`.")
    cfg.freeze()
    return cfg


def _work(cfg: CfgNode, args: argparse.Namespace) -> None:
    prepare_datasets(cfg)  # a process that was started here has its own catalogs
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="possam")
    if args.eval_only:
        model = Trainer.build_model(cfg)
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
        Trainer.test(cfg, model)
    else:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()
        model = unwrap(trainer.model)
    if not comm.is_main_process():
        return
    if cfg.TEST.PICTURES:
        paths = [path for dataset in cfg.DATASETS.TEST for path in draw_cases(cfg, model, dataset)]
        print("Pictures:", *paths, sep="\n  ")
    if getattr(args, "report", False):
        folders = [Path(cfg.OUTPUT_DIR) / "evaluation" / dataset for dataset in cfg.DATASETS.TEST]
        # Only a panoptic evaluation leaves predictions to report on.
        pages = [write_report(folder) for folder in folders if (folder / "panoptic.json").is_file()]
        print("Reports:", *pages, sep="\n  ")
