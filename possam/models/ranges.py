"""Ranges of settings: the numbers, and the elements of lists, that each key may have."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from possam.d2.config import CfgNode
from possam.messages import did_you_mean

__all__ = ["check_ranges"]

_COUNTS = """
    MODEL.DECODER.CHANNELS MODEL.DECODER.QUERIES MODEL.DECODER.LAYERS MODEL.DECODER.HEADS MODEL.DECODER.FEEDFORWARD
    MODEL.DECODER.PIXEL_LAYERS MODEL.DECODER.PIXEL_FEEDFORWARD MODEL.DECODER.POINTS MODEL.DECODER.TWO_WAY_LAYERS
    MODEL.LDP.LAYERS MODEL.LDP.HEADS MODEL.LOSS.POINTS INPUT.IMAGE_SIZE INPUT.MIN_SIZE_TEST INPUT.MAX_SIZE_TEST
    SOLVER.MAX_ITER SOLVER.IMS_PER_BATCH SOLVER.ACCUMULATE SOLVER.CHECKPOINT_PERIOD SOLVER.NUM_DECAYS
    TEST.TOP_K TEST.BATCH_SIZE LOG.PERIOD
""".split()
_POSITIVE = """
    MODEL.CLIP.INPUT_SCALE SOLVER.BASE_LR SOLVER.OPTIMIZER_EPS SOLVER.CLIP_GRADIENTS.CLIP_VALUE
""".split()
_NOT_NEGATIVE = """
    MODEL.LOSS.CLASS MODEL.LOSS.MASK MODEL.LOSS.DICE MODEL.LOSS.IOU MODEL.LOSS.NO_OBJECT
    SOLVER.BASE_LR_END SOLVER.WEIGHT_DECAY SOLVER.WEIGHT_DECAY_NORM SOLVER.WEIGHT_DECAY_EMBED
    SOLVER.WARMUP_ITERS SOLVER.CHECKPOINT_KEEP MODEL.SAM.SEED
    DATALOADER.NUM_WORKERS TEST.EVAL_PERIOD TEST.PICTURES
""".split()
_FRACTIONS = """
    MODEL.LOSS.IMPORTANCE TEST.OBJECT_THRESHOLD TEST.OVERLAP_THRESHOLD DATALOADER.MAX_UNREADABLE SOLVER.WARMUP_FACTOR
""".split()
_SEEDS = "SEED MODEL.SAM.SEED".split()
_LISTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("DATASETS.TRAIN", "DATASETS.TEST", "TEST.TASKS", "TEST.COMPARE", "MODEL.LDP.STREAMS"),
        ("a name", lambda value: isinstance(value, str) and bool(value.strip())),
    ),
    "SOLVER.STEPS": ("a whole number above 0", lambda value: type(value) is int and value > 0),
    "TEST.AUG.SCALES": ("a number above 0", lambda value: type(value) in (int, float) and 0 < value < math.inf),
}
"""What each element of a list must be; no list may have an element twice."""


def check_ranges(cfg: CfgNode) -> None:
    """Raise ValueError, naming key, value and range, for a number, or an element of a list, that is out of its range.

    Numbers that are not finite are out of every range.
    """
    for key in _COUNTS:
        _check(cfg, key, "at least 1", lambda value: value >= 1)
    for key in _POSITIVE:
        _check(cfg, key, "above 0", lambda value: value > 0)
    for key in _NOT_NEGATIVE:
        _check(cfg, key, "at least 0", lambda value: value >= 0)
    for key in _FRACTIONS:
        _check(cfg, key, "between 0 and 1", lambda value: 0 <= value <= 1)
    for key in _SEEDS:
        _check(cfg, key, "below 2**31", lambda value: value < 2**31)
    for key in _LISTS:
        _check_elements(cfg, key)
    _check_schedule(cfg)
    _check(cfg, "MODEL.LOSS.OVERSAMPLE", "at least 1", lambda value: value >= 1)
    _check(cfg, "MODEL.DECODER.CHANNELS", "a multiple of 4 (sine and cosine of row and column)", lambda n: n % 4 == 0)
    heads = ["MODEL.DECODER.HEADS", *(["MODEL.LDP.HEADS"] if cfg.MODEL.EMBEDDING.NAME == "ldp" else [])]
    for key in heads:
        channels = cfg.MODEL.DECODER.CHANNELS
        _check(cfg, key, f"a divisor of MODEL.DECODER.CHANNELS, {channels}", partial(_divides, channels))
    if cfg.MODEL.DECODER.NAME == "mask2former":
        rounds = "a multiple of 3, a layer for each of the strides 32, 16 and 8"
        _check(cfg, "MODEL.DECODER.LAYERS", rounds, lambda value: value % 3 == 0)
    if cfg.INPUT.PAD_TO_SQUARE:
        _check(cfg, "INPUT.IMAGE_SIZE", "a multiple of 32, the largest stride", lambda value: value % 32 == 0)
    _check_test_size(cfg)


def _check_test_size(cfg: CfgNode) -> None:
    """The settings of the test-time resize, which depend on each other."""
    resize, names = cfg.INPUT.RESIZE_TEST, ("longest_edge", "shortest_edge")
    if resize not in names:
        raise ValueError(
            f"INPUT.RESIZE_TEST is {resize!r}, but must be one of: {', '.join(names)}.{did_you_mean(resize, names)}"
        )
    if resize == "longest_edge":
        return
    shortest = cfg.INPUT.MIN_SIZE_TEST
    _check(cfg, "INPUT.MAX_SIZE_TEST", f"at least INPUT.MIN_SIZE_TEST, {shortest}", lambda value: value >= shortest)
    if cfg.INPUT.PAD_TO_SQUARE:
        raise ValueError(
            "INPUT.RESIZE_TEST is shortest_edge, whose images do not fit in a square of INPUT.IMAGE_SIZE; set "
            "INPUT.PAD_TO_SQUARE False, or INPUT.RESIZE_TEST longest_edge."
        )


def _check_schedule(cfg: CfgNode) -> None:
    """The settings of the learning rate's schedule, which depend on each other."""
    solver = cfg.SOLVER
    _check(cfg, "SOLVER.GAMMA", "above 0 and at most 1", lambda value: 0 < value <= 1)
    if any(later < earlier for earlier, later in pairwise(solver.STEPS)):
        raise ValueError(f"SOLVER.STEPS is {list(solver.STEPS)}, but each step must be above the one before.")
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR" and solver.MAX_ITER in solver.STEPS:
        raise ValueError(
            f"SOLVER.STEPS is {list(solver.STEPS)} and SOLVER.MAX_ITER {solver.MAX_ITER}, but a step must not be where "
            "the training ends; leave it out."
        )
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        highest = solver.BASE_LR
        _check(cfg, "SOLVER.BASE_LR_END", f"at most SOLVER.BASE_LR, {highest}", lambda value: value <= highest)
    if solver.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR":
        steps = solver.MAX_ITER
        fits = f"so few that SOLVER.MAX_ITER, {steps}, has a step of the schedule for each"
        _check(cfg, "SOLVER.NUM_DECAYS", fits, lambda value: -(-steps // (value + 1)) * value < steps)
    if solver.RESCALE_INTERVAL:
        steps = solver.MAX_ITER
        wanted = f"below SOLVER.MAX_ITER, {steps}, where SOLVER.RESCALE_INTERVAL is True"
        _check(cfg, "SOLVER.WARMUP_ITERS", wanted, lambda value: value < steps)


def _check_elements(cfg: CfgNode, key: str) -> None:
    wanted, fits = _LISTS[key]
    values = list(_value(cfg, key))
    for place, value in enumerate(values):
        if not fits(value):
            raise ValueError(f"{key}[{place}] is {value!r:.80}, but must be {wanted}.{_number_hint(value)}")
        if value in values[:place]:
            raise ValueError(f"{key} has {value!r} twice; remove one.")


def _number_hint(value: object) -> str:
    """YAML takes numbers such as 1e2, without a point and a sign, for text."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    return f" In YAML, {value} is text; write {number:.15g}." if math.isfinite(number) else ""


def _divides(whole: int, part: int) -> bool:
    return whole % part == 0


def _check(cfg: CfgNode, key: str, wanted: str, fits: Callable[[Any], bool]) -> None:
    value = _value(cfg, key)
    if not ((isinstance(value, int) or math.isfinite(value)) and fits(value)):  # an int may be too large for a float
        raise ValueError(f"{key} is {value}, but must be {wanted}.")


def _value(cfg: CfgNode, key: str) -> Any:
    value: Any = cfg
    for part in key.split("."):
        value = value[part]
    return value
