"""Optimizers and schedules from configs."""

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from torch import nn

from ..utils.logger import runtime_logger
from .lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler

__all__ = ["build_lr_scheduler", "build_optimizer", "get_default_optimizer_params", "maybe_add_gradient_clipping"]

logger = runtime_logger(__name__)

_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.InstanceNorm1d,
    nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm, nn.LocalResponseNorm,
)


def _gradient_clipper(settings: Any) -> Callable[[torch.Tensor], Any]:
    value, norm_type = settings.CLIP_VALUE, settings.NORM_TYPE
    clippers: dict[str, Callable[[torch.Tensor], Any]] = {
        "value": lambda parameter: nn.utils.clip_grad_value_(parameter, value),
        "norm": lambda parameter: nn.utils.clip_grad_norm_(parameter, value, norm_type),
    }
    if settings.CLIP_TYPE not in clippers:
        raise ValueError(f"CLIP_GRADIENTS.CLIP_TYPE is '{settings.CLIP_TYPE}'; known are: {', '.join(clippers)}")
    return clippers[settings.CLIP_TYPE]


def maybe_add_gradient_clipping(cfg: Any, optimizer: Any) -> Any:
    """Make ``step`` clip each parameter's gradient first, if SOLVER.CLIP_GRADIENTS.ENABLED.

    Args:
        cfg: the config.
        optimizer: an optimizer class, or an optimizer.

    Returns:
        A subclass of the class, or the same optimizer, its class changed; as it came if clipping is off.
    """
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    clip = _gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS)
    existing = isinstance(optimizer, torch.optim.Optimizer)
    base: Any = type(optimizer) if existing else optimizer
    assert issubclass(base, torch.optim.Optimizer), base

    def step(self: Any, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                clip(parameter)
        return base.step(self, closure)

    clipping = type(f"{base.__name__}WithGradientClip", (base,), {"step": step})
    if not existing:
        return clipping
    optimizer.__class__ = clipping
    return optimizer


def build_optimizer(cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
    """SGD over all trainable parameters, with the rates, decays and clipping of ``cfg.SOLVER``."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model, base_lr=solver.BASE_LR, weight_decay_norm=solver.WEIGHT_DECAY_NORM, bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    sgd = torch.optim.SGD(
        groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV, weight_decay=solver.WEIGHT_DECAY,
        foreach=True,
    )
    return maybe_add_gradient_clipping(cfg, sgd)


def get_default_optimizer_params(
    model: nn.Module, base_lr: float | None = None, weight_decay: float | None = None,
    weight_decay_norm: float | None = None, bias_lr_factor: float | None = 1.0, weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None, overrides: dict[str, dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups of a model, as few as the differences in their settings allow.

    Args:
        model: only its trainable parameters are taken, each once.
        base_lr, weight_decay: of every group; None leaves them to the optimizer.
        weight_decay_norm: of the parameters of normalisation layers.
        bias_lr_factor: multiplies ``base_lr`` for parameters named "bias".
        weight_decay_bias: of parameters named "bias".
        lr_factor_func: full name of a parameter → factor on ``base_lr``.
        overrides: last part of a parameter's name → settings that win over all others.

    Raises:
        ValueError: a factor is given without ``base_lr``, or "bias" is set in two ways.
    """
    common = {"lr": base_lr, "weight_decay": weight_decay}
    common = {key: value for key, value in common.items() if value is not None}
    scaled_bias = bias_lr_factor is not None and bias_lr_factor != 1.0
    if base_lr is None and (scaled_bias or lr_factor_func is not None):
        raise ValueError("bias_lr_factor and lr_factor_func multiply base_lr, which is not given")
    by_name = dict(overrides or {})
    bias: dict[str, float] = {}
    if base_lr is not None and bias_lr_factor is not None and scaled_bias:
        bias["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        bias["weight_decay"] = weight_decay_bias
    if bias:
        if "bias" in by_name:
            raise ValueError("'bias' is in overrides and also set by bias_lr_factor or weight_decay_bias")
        by_name["bias"] = bias
    groups: list[dict[str, Any]] = []
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            settings: dict[str, Any] = dict(common)
            if weight_decay_norm is not None and isinstance(module, _NORMS):
                settings["weight_decay"] = weight_decay_norm
            if lr_factor_func is not None:
                settings["lr"] *= lr_factor_func(f"{module_name}.{name}")
            groups.append({"params": [parameter], **settings, **by_name.get(name, {})})
    return reduce_param_groups(groups)


_NOT_SETTINGS = ("params", "param_names")


def _expand_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One group per parameter; where a parameter comes again, the later settings win."""
    single: dict[Any, dict[str, Any]] = defaultdict(dict)
    for group in params:
        settings = {key: value for key, value in group.items() if key not in _NOT_SETTINGS}
        for position, parameter in enumerate(group["params"]):
            single[parameter].update(settings, params=[parameter])
            if "param_names" in group:
                single[parameter]["param_names"] = [group["param_names"][position]]
    return list(single.values())


def reduce_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join groups of equal settings: few large groups are what the fused optimizers are fast on."""
    joined: dict[Any, dict[str, Any]] = {}
    for group in _expand_param_groups(params):
        settings = {key: value for key, value in group.items() if key not in _NOT_SETTINGS}
        target = joined.setdefault(tuple(settings.items()), settings)
        for key in _NOT_SETTINGS:
            if key in group:
                target.setdefault(key, []).extend(group[key])
    return list(joined.values())


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
