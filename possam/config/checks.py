"""Values out of their range, and settings that cannot be used together."""

from __future__ import annotations

from itertools import pairwise

import torch

from possam.classifiers import build_ensemble, ensemble_constants
from possam.config.key import value_of
from possam.config.table import keys_of
from possam.d2.config import CfgNode
from possam.vocabulary import Vocabulary
from possam.vocabulary.published import check_class_names_source

__all__ = ["check_run", "check_values"]


def check_values(cfg: CfgNode) -> None:
    """Check what a saved model's settings must fulfill, too, wherever it is loaded.

    Raises:
        ValueError: a value, or an element of a list, is out of its range or is not one of the valid names; names key,
            value and what is valid.
    """
    for key in keys_of(cfg.MODEL.META_ARCHITECTURE).values():
        value, unread = value_of(cfg, key.name), key.without_effect(cfg)
        for check in key.checks:
            if not (unread and check.where_read):
                check(key.name, value, cfg)
    _check_schedule(cfg)
    if cfg.INPUT.RESIZE_TEST == "shortest_edge" and cfg.INPUT.PAD_TO_SQUARE:
        raise ValueError(
            "INPUT.RESIZE_TEST is shortest_edge, whose images do not fit in a square of INPUT.IMAGE_SIZE; set "
            "INPUT.PAD_TO_SQUARE False, or INPUT.RESIZE_TEST longest_edge."
        )


def _check_schedule(cfg: CfgNode) -> None:
    """The settings of the learning rate's schedule, which depend on each other."""
    solver = cfg.SOLVER
    steps, last = list(solver.STEPS), solver.MAX_ITER
    if any(later < earlier for earlier, later in pairwise(steps)):
        raise ValueError(f"SOLVER.STEPS is {steps}, but each step must be above the one before.")
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR" and last in steps:
        raise ValueError(
            f"SOLVER.STEPS is {steps} and SOLVER.MAX_ITER {last}, but a step must not be where the training ends; "
            "leave it out."
        )
    decays = solver.NUM_DECAYS
    if solver.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR" and -(-last // (decays + 1)) * decays >= last:
        raise ValueError(
            f"SOLVER.NUM_DECAYS is {decays}, but must be so few that SOLVER.MAX_ITER, {last}, has a step of the "
            "schedule for each."
        )
    if solver.RESCALE_INTERVAL and solver.WARMUP_ITERS >= last:
        raise ValueError(
            f"SOLVER.WARMUP_ITERS is {solver.WARMUP_ITERS}, but must be below SOLVER.MAX_ITER, {last}, where "
            "SOLVER.RESCALE_INTERVAL is True."
        )


def check_run(cfg: CfgNode) -> None:
    """Check what a training or an evaluation needs on this machine, without data and weights.

    Raises:
        ValueError: settings cannot be used together or here; names them and what to do.
    """
    _check_vocabularies(cfg)
    _check_ensembles(cfg)
    _check_images(cfg)
    _check_device(cfg)
    if cfg.SOLVER.IMS_PER_BATCH % cfg.SOLVER.GRAD_ACCUM_STEPS:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which is not a multiple of SOLVER.GRAD_ACCUM_STEPS "
            f"{cfg.SOLVER.GRAD_ACCUM_STEPS}."
        )
    if "iou" in cfg.TEST.MASK_FILTER and not cfg.MODEL.MASK_FORMER.get("IOU_HEAD", True):
        raise ValueError(
            f"TEST.MASK_FILTER is {cfg.TEST.MASK_FILTER}, but MODEL.MASK_FORMER.IOU_HEAD is False: every IoU is taken "
            "to be 1. Set TEST.MASK_FILTER cls, or leave it empty."
        )
    if not cfg.TEST.TASKS:
        raise ValueError("TEST.TASKS is empty; name at least one task to score, such as 'panoptic'.")
    if "panoptic" not in cfg.TEST.TASKS and cfg.TEST.NUM_VISUALIZATIONS:
        raise ValueError(f"TEST.TASKS is {cfg.TEST.TASKS}; TEST.NUM_VISUALIZATIONS needs 'panoptic' among them.")


def _check_vocabularies(cfg: CfgNode) -> None:
    if cfg.MODEL.TRAIN_VOCABULARY:
        try:
            Vocabulary.load(cfg.MODEL.TRAIN_VOCABULARY)
        except (ValueError, OSError) as error:
            raise ValueError(f"MODEL.TRAIN_VOCABULARY: {error}") from error
    try:
        check_class_names_source(cfg.DATASETS.CLASS_NAMES)
    except ValueError as error:
        raise ValueError(f"DATASETS.CLASS_NAMES: {error}") from error


def _check_ensembles(cfg: CfgNode) -> None:
    """The constants of the ensembles in use, which their constructors check."""
    for name in (cfg.MODEL.ENSEMBLE.NAME, *cfg.TEST.ENSEMBLES):
        try:
            build_ensemble(name, **ensemble_constants(cfg.MODEL.ENSEMBLE, name))
        except (ValueError, TypeError) as error:
            raise ValueError(f"MODEL.ENSEMBLE.{name.upper()}: {error}") from error


def _check_images(cfg: CfgNode) -> None:
    key = "MIN_SIZE_TEST" if cfg.INPUT.RESIZE_TEST == "shortest_edge" else "IMAGE_SIZE"
    if cfg.TEST.AUG.ENABLED and min(cfg.TEST.AUG.SCALES, default=0) <= 1 / (2 * cfg.INPUT[key]):
        raise ValueError(
            f"TEST.AUG.SCALES is {cfg.TEST.AUG.SCALES}, but test-time augmentation needs a scale, and images of "
            f"INPUT.{key} {cfg.INPUT[key]} at least a pixel at each."
        )
    if cfg.INPUT.CACHE_FEATURES and cfg.INPUT.AUGMENTATION != "flip":
        raise ValueError(
            f"INPUT.CACHE_FEATURES needs INPUT.AUGMENTATION 'flip', not {cfg.INPUT.AUGMENTATION!r}: the features "
            "of a random crop cannot be computed beforehand. Set one or the other."
        )
    if cfg.TEST.BATCH_SIZE > 1 and not cfg.INPUT.PAD_TO_SQUARE:
        raise ValueError(
            f"TEST.BATCH_SIZE is {cfg.TEST.BATCH_SIZE} without INPUT.PAD_TO_SQUARE: an image's padding, and so its "
            "result, would depend on the others of its batch. Set one or the other."
        )
    if cfg.INPUT.CACHE_FEATURES and not cfg.INPUT.PAD_TO_SQUARE:
        raise ValueError("INPUT.CACHE_FEATURES keeps features of one size; set INPUT.PAD_TO_SQUARE True.")


def _check_device(cfg: CfgNode) -> None:
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise ValueError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}; valid are 'cpu', 'cuda', 'cuda:0' …") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, but this project runs on 'cpu' and 'cuda' devices.")
    if cfg.SOLVER.AMP.ENABLED and device.type != "cuda":
        raise ValueError(f"SOLVER.AMP.ENABLED needs a CUDA device, not MODEL.DEVICE {cfg.MODEL.DEVICE!r}.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, but there is no CUDA device; add `MODEL.DEVICE cpu`.")
