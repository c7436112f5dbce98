"""Schedules from configs."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)

from ..utils.logger import runtime_logger
from .lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler

__all__ = ["build_lr_scheduler"]

logger = runtime_logger(__name__)


def _multi_step(solver: Any) -> ParamScheduler:
    steps = list(itertools.takewhile(lambda step: step <= solver.MAX_ITER, solver.STEPS))
    if len(steps) < len(solver.STEPS):
        logger.warning(f"SOLVER.STEPS {solver.STEPS} reach beyond SOLVER.MAX_ITER {solver.MAX_ITER}: those are ignored")
    values = [solver.GAMMA**power for power in range(len(steps) + 1)]
    return MultiStepParamScheduler(values=values, milestones=steps, num_updates=solver.MAX_ITER)


def _cosine(solver: Any) -> ParamScheduler:
    end = solver.BASE_LR_END / solver.BASE_LR
    assert 0.0 <= end <= 1.0, f"SOLVER.BASE_LR_END {solver.BASE_LR_END} must lie in [0, BASE_LR]"
    return CosineParamScheduler(1, end)


def _fixed_gamma(solver: Any) -> ParamScheduler:
    return StepWithFixedGammaParamScheduler(
        base_value=1.0, gamma=solver.GAMMA, num_decays=solver.NUM_DECAYS, num_updates=solver.MAX_ITER
    )


_SCHEDULES: dict[str, Callable[[Any], ParamScheduler]] = {
    "WarmupMultiStepLR": _multi_step, "WarmupCosineLR": _cosine, "WarmupStepWithFixedGammaLR": _fixed_gamma,
}


def build_lr_scheduler(cfg: Any, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The schedule that ``cfg.SOLVER.LR_SCHEDULER_NAME`` names, after a warm-up; ValueError for unknown names."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME not in _SCHEDULES:
        known = ", ".join(_SCHEDULES)
        raise ValueError(f"SOLVER.LR_SCHEDULER_NAME is '{solver.LR_SCHEDULER_NAME}'; known are: {known}")
    warm = WarmupParamScheduler(
        _SCHEDULES[solver.LR_SCHEDULER_NAME](solver), solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0), solver.WARMUP_METHOD, solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=warm, max_iter=solver.MAX_ITER)
