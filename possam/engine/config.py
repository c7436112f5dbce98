"""The settings of a run, read and checked before anything loads."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from possam.config import Choice, ConfigFiles, check_run, check_values, list_files, load, unused_settings
from possam.d2.config import CfgNode
from possam.data import AUGMENTATIONS
from possam.engine.prompted import check_prompts
from possam.evaluation import registered_tasks
from possam.models import model_spec

logger = logging.getLogger(__name__)


def load_config(path: ConfigFiles = None, overrides: Sequence[str] = ()) -> CfgNode:
    """Read YAML configurations over the defaults, apply `KEY VALUE` overrides, and check the result.

    See `possam.config.load`. Settings that have no effect are named in a warning.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: an unknown key or a value out of its range; the message names the valid ones.
    """
    cfg = load(path, overrides)
    check_config(cfg)
    if unused := unused_settings(cfg):
        source = " + ".join(map(str, list_files(path))) or "The configuration"
        logger.warning("%s: these settings have no effect: %s.", source, "; ".join(unused))
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Check what can be checked without data or weights. Raises ValueError naming the key and the valid values."""
    check_values(cfg)
    model_spec(cfg.MODEL.META_ARCHITECTURE).check_config(cfg)
    Choice(AUGMENTATIONS)("INPUT.AUGMENTATION", cfg.INPUT.AUGMENTATION)
    for task in cfg.TEST.TASKS:
        Choice([known.key for known in registered_tasks()])("TEST.TASKS", task)
    check_prompts(cfg)
    check_run(cfg)


def check_trainable(cfg: CfgNode) -> None:
    """Raise ValueError where the system of a configuration has nothing to train."""
    name = cfg.MODEL.META_ARCHITECTURE
    if not model_spec(name).trainable:
        raise ValueError(
            f"{name} has nothing to train: all of it is frozen. Evaluate it, which needs no checkpoint: `possam eval` "
            "or --eval-only."
        )


def schedule_warning(cfg: CfgNode) -> str:
    """What is doubtful about the learning rate's schedule, in one sentence; "" where nothing is."""
    warmup, steps = cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.MAX_ITER
    if warmup < steps:
        return ""
    return (
        f"SOLVER.WARMUP_ITERS is {warmup} and SOLVER.MAX_ITER {steps}: the training ends within the warm-up, and the "
        "learning rate does not follow its schedule."
    )
