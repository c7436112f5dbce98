"""Optimizers and schedules of the built-in runtime."""

import math

import pytest
import torch
from torch import nn

from possam.d2._runtime.config import get_cfg
from possam.d2._runtime.solver import (
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
    maybe_add_gradient_clipping,
)


def model():
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))


def test_parameters_are_grouped_by_their_settings():
    network = model()
    network[2].weight.requires_grad_(False)
    groups = get_default_optimizer_params(
        network, base_lr=1.0, weight_decay=0.1, weight_decay_norm=0.0, bias_lr_factor=2.0,
        lr_factor_func=lambda name: 0.5 if name.startswith("0.") else 1.0,
    )  # fmt: skip
    found = {parameter: group for group in groups for parameter in group["params"]}
    assert network[2].weight not in found and len(found) == 5
    assert (found[network[0].weight]["lr"], found[network[0].weight]["weight_decay"]) == (0.5, 0.1)
    assert found[network[1].weight]["weight_decay"] == 0.0
    assert found[network[2].bias]["lr"] == 2.0
    with pytest.raises(ValueError, match="base_lr"):
        get_default_optimizer_params(network, bias_lr_factor=2.0)


@pytest.mark.parametrize(("kind", "limit"), [("value", 0.1), ("norm", 0.2)])
def test_gradients_are_clipped_before_the_step(kind, limit):
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = kind
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = limit
    parameter = nn.Parameter(torch.zeros(4))
    optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD)([parameter], lr=1.0)
    parameter.grad = torch.full((4,), 5.0)
    optimizer.step()
    expected = limit if kind == "value" else limit / 2  # the norm of four equal numbers is twice one of them
    assert torch.allclose(parameter.detach(), torch.full((4,), -expected), atol=1e-6)
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"
    with pytest.raises(ValueError, match="value, norm"):
        maybe_add_gradient_clipping(cfg, torch.optim.SGD)


def rates(cfg, count):
    optimizer = build_optimizer(cfg, model())
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
