"""Train and evaluate a model, or evaluate it alone, from a configuration; in one process or in several."""

from __future__ import annotations

import argparse
import logging
import os
import re
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from torch import nn

from possam.d2.config import CfgNode
from possam.d2.utils import comm
from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets, run, unwrap
from possam.engine.config import check_trainable
from possam.engine.data_check import check_class_names, check_tasks, check_test_sets
from possam.engine.preemption import Preempted, preemptible
from possam.engine.run_folder import LEASE, check_shared, exclusive, starting_run
from possam.engine.setup import keep_config, set_up
from possam.models import OpenVocabularySegmenter, model_spec
from possam.report import write_report
from possam.report.visualizations import draw_cases
from possam.utils.messages import describe_os_error
from possam.utils.output import guarded_output

__all__ = ["JOB_ERRORS", "run_job", "sentence"]

JOB_ERRORS = (ValueError, OSError, FloatingPointError, MemoryError)
"""What a job that cannot be done raises, with a `sentence` for a person."""

logger = logging.getLogger(__name__)

_LOST = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal: [\w ]+|exited unexpectedly)")
_ALONE = re.compile(r".*gloo/transport.*(closed|reset) by peer", re.DOTALL)


def run_job(args: argparse.Namespace) -> None:
    """Run the job in the processes that `args` or `torchrun`'s environment asks for.

    Args:
        args: as Detectron2's `default_argument_parser` gives them: config_file, opts, resume, eval_only, num_gpus,
            num_machines, machine_rank, dist_url; config_file may be a list; and perhaps report: write an HTML page of
            every evaluation.

    Raises:
        ValueError, OSError, FloatingPointError, MemoryError: the job cannot be done; `sentence` says why.
        Preempted: a signal stopped it, and it is to be started again with --resume.
    """
    cfg = _read(args)  # what is wrong with it is said here, before any process starts
    run(partial(_work, cfg), args)


def sentence(error: BaseException) -> str:
    """An error in one sentence; that of a data loader's process comes wrapped in its traceback, with it at the end."""
    text = describe_os_error(error) if isinstance(error, OSError) else str(error)
    text = text or type(error).__name__  # Python's own MemoryError says nothing
    return text.strip().splitlines()[-1] if "Original Traceback" in text else text


def _read(args: argparse.Namespace) -> CfgNode:
    cfg = load_config(args.config_file, args.opts)
    prepare_datasets(cfg)
    check_tasks(cfg)
    trainable = model_spec(cfg.MODEL.META_ARCHITECTURE).trainable
    if not args.eval_only:
        check_trainable(cfg)
    if args.eval_only and trainable and not cfg.MODEL.WEIGHTS:
        raise ValueError("--eval-only needs trained parameters; add `MODEL.WEIGHTS <path to model_final.pth>`.")
    if args.eval_only and not cfg.DATASETS.TEST:
        raise ValueError("--eval-only has nothing to evaluate: DATASETS.TEST is empty; name at least one dataset.")
    weights = cfg.MODEL.WEIGHTS
    if weights and not args.resume and "://" not in weights and not Path(weights).is_file():
        raise FileNotFoundError(
            f"No checkpoint at {weights}. Check MODEL.WEIGHTS, which a training from scratch leaves empty."
        )
    cfg.freeze()
    return cfg


def _work(cfg: CfgNode, args: argparse.Namespace) -> None:
    with guarded_output(), preemptible(), exclusive(cfg.OUTPUT_DIR, patience=LEASE if args.resume else 0):
        prepare_datasets(cfg)  # a process that was started here has its own catalogs
        _check_folder(cfg)
        _check_shared(cfg, args)
        set_up(cfg, args)
        if args.eval_only and args.resume:
            logger.warning("--resume has no effect with --eval-only: MODEL.WEIGHTS %s is evaluated.", cfg.MODEL.WEIGHTS)
        try:
            model = _evaluate(cfg) if args.eval_only else _train(cfg, resume=args.resume)
        except RuntimeError as error:
            raise _plain(error) from error
        if comm.is_main_process():
            _show(cfg, model, report=getattr(args, "report", False))


def _check_folder(cfg: CfgNode) -> None:
    """Check that the output folder can be written to. All processes call this, and raise the OSError of the first."""
    problem = ""
    try:
        Checkpointer(nn.Module(), cfg.OUTPUT_DIR).check_folder()
        results = Path(cfg.OUTPUT_DIR) / "evaluation"
        for folder in (results, *(results / name for name in cfg.DATASETS.TEST)):
            if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
                raise OSError(f"Results cannot be written to {folder}, which is no folder, or one without the right to "
                              "write to it; remove it, or set OUTPUT_DIR to another folder.")  # fmt: skip
    except OSError as error:
        problem = str(error)
    if problem := comm.all_gather(problem)[0]:
        raise OSError(problem)


def _check_shared(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Check that all machines see one output folder where something is read from it; else a warning is enough."""
    try:
        check_shared(cfg.OUTPUT_DIR)
    except ValueError as error:
        pictures = cfg.DATASETS.TEST and (cfg.TEST.NUM_VISUALIZATIONS or getattr(args, "report", False))
        if args.resume or pictures:
            raise
        logger.warning("%s This run needs no such folder, but --resume, pictures and reports do.", error)


def _evaluate(cfg: CfgNode) -> OpenVocabularySegmenter:
    check_test_sets(cfg)
    model = Trainer.build_model(cfg)
    check_class_names(cfg, model)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    keep_config(cfg, eval_only=True)
    Trainer.test(cfg, model)
    return model


def _train(cfg: CfgNode, *, resume: bool) -> OpenVocabularySegmenter:
    with nullcontext() if resume else starting_run(cfg.OUTPUT_DIR):
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=resume)
        keep_config(cfg, eval_only=False)
    trainer.train()
    return unwrap(trainer.model)


def _plain(error: RuntimeError) -> BaseException:
    """Replace PyTorch's errors about lost processes by ones that say what to do; others are returned as they are."""
    if _ALONE.match(str(error)):
        return ChildProcessError("Another process of this run has ended, and so this one has to; the other says why.")
    said = [str(error.__cause__), str(error)]  # the cause, if any, knows more
    lost = next(filter(None, map(_LOST.match, said)), None)
    if not lost:
        return error
    if "Terminated" in lost[0]:
        return Preempted()  # all processes of the run were stopped by a signal, and this one cannot finish its step
    return ChildProcessError(
        f"A process that loads data was lost: {lost[0].strip()}. Memory or shared memory (/dev/shm) may have run out: "
        "lower DATALOADER.NUM_WORKERS, give a container more with --shm-size, and go on with --resume."
    )


def _show(cfg: CfgNode, model: OpenVocabularySegmenter, *, report: bool) -> None:
    if cfg.TEST.NUM_VISUALIZATIONS:
        paths = [path for dataset in cfg.DATASETS.TEST for path in draw_cases(cfg, model, dataset)]
        if paths:
            print("Pictures:", *paths, sep="\n  ")
    if report:
        folders = [Path(cfg.OUTPUT_DIR) / "evaluation" / dataset for dataset in cfg.DATASETS.TEST]
        # Only a panoptic evaluation leaves predictions to report on.
        pages = [write_report(folder) for folder in folders if (folder / "panoptic.json").is_file()]
        print("Reports:", *pages, sep="\n  ")
