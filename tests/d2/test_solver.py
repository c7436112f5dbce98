"""Schedules of the built-in runtime."""

import math

import pytest
import torch
from torch import nn

from possam.d2._runtime.config import get_cfg
from possam.d2._runtime.solver import build_lr_scheduler


def rates(cfg, count):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_cosine_schedule_follows_its_formula():
    cfg = get_cfg()
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = 2.0, 20, 0
    expected = [1.0 + math.cos(math.pi * step / 20) for step in range(20)]
    assert rates(cfg, 20) == pytest.approx(expected)


def test_steps_beyond_the_end_are_ignored():
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS = 1.0, 6, 2, (3, 90)
    cfg.SOLVER.WARMUP_FACTOR = 0.5
    assert rates(cfg, 6) == pytest.approx([0.5, 0.75, 1.0, 0.1, 0.1, 0.1])


def test_unknown_schedules_name_the_known_ones():
    cfg = get_cfg()
    cfg.SOLVER.LR_SCHEDULER_NAME = "Cosine"
    with pytest.raises(ValueError, match="WarmupCosineLR"):
        rates(cfg, 1)
