"""The numbers that settings may have, one by one; what else they must be is said where they are used together."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from possam.d2.config import CfgNode

__all__ = ["check_ranges"]

_COUNTS = """
    MODEL.DECODER.CHANNELS MODEL.DECODER.QUERIES MODEL.DECODER.LAYERS MODEL.DECODER.HEADS MODEL.DECODER.FEEDFORWARD
    MODEL.DECODER.PIXEL_LAYERS MODEL.DECODER.PIXEL_FEEDFORWARD MODEL.DECODER.POINTS MODEL.DECODER.TWO_WAY_LAYERS
    MODEL.LDP.LAYERS MODEL.LDP.HEADS MODEL.LOSS.POINTS INPUT.IMAGE_SIZE
    SOLVER.MAX_ITER SOLVER.IMS_PER_BATCH SOLVER.ACCUMULATE SOLVER.CHECKPOINT_PERIOD
    TEST.TOP_K TEST.BATCH_SIZE LOG.PERIOD
""".split()
_POSITIVE = """
    MODEL.CLIP.INPUT_SCALE SOLVER.BASE_LR SOLVER.OPTIMIZER_EPS SOLVER.CLIP_GRADIENTS.CLIP_VALUE
""".split()
_NOT_NEGATIVE = """
    MODEL.LOSS.CLASS MODEL.LOSS.MASK MODEL.LOSS.DICE MODEL.LOSS.IOU MODEL.LOSS.NO_OBJECT
    SOLVER.BASE_LR_END SOLVER.WEIGHT_DECAY SOLVER.WEIGHT_DECAY_NORM SOLVER.WEIGHT_DECAY_EMBED
    SOLVER.WARMUP_FACTOR SOLVER.WARMUP_ITERS SOLVER.CHECKPOINT_KEEP
    DATALOADER.NUM_WORKERS TEST.EVAL_PERIOD TEST.PICTURES
""".split()
_FRACTIONS = """
    MODEL.LOSS.IMPORTANCE TEST.OBJECT_THRESHOLD TEST.OVERLAP_THRESHOLD DATALOADER.MAX_UNREADABLE
""".split()


def check_ranges(cfg: CfgNode) -> None:
    """Raise ValueError, naming key, value and range, for a number that is out of its range or not finite."""
    for key in _COUNTS:
        _check(cfg, key, "at least 1", lambda value: value >= 1)
    for key in _POSITIVE:
        _check(cfg, key, "above 0", lambda value: value > 0)
    for key in _NOT_NEGATIVE:
        _check(cfg, key, "at least 0", lambda value: value >= 0)
    for key in _FRACTIONS:
        _check(cfg, key, "between 0 and 1", lambda value: 0 <= value <= 1)
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


def _divides(whole: int, part: int) -> bool:
    return whole % part == 0


def _check(cfg: CfgNode, key: str, wanted: str, fits: Callable[[Any], bool]) -> None:
    value = _value(cfg, key)
    if not (math.isfinite(value) and fits(value)):
        raise ValueError(f"{key} is {value}, but must be {wanted}.")


def _value(cfg: CfgNode, key: str) -> Any:
    value: Any = cfg
    for part in key.split("."):
        value = value[part]
    return value
