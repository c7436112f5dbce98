"""AdamW with the recipe's weight-decay groups and full-model gradient clipping (METHOD.md 1, training recipe)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from possam.classifiers import CosineClassifier, LocalDiscriminativePooling
from possam.d2.config import CfgNode

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.SyncBatchNorm)
# LDP's own parameter is its stream embedding; the classifier's are the void embedding and the temperature.
EMBEDDINGS = (nn.Embedding, LocalDiscriminativePooling, CosineClassifier)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; norms and embeddings get their own weight decay.

    When `SOLVER.CLIP_GRADIENTS.ENABLED`, the norm of the whole model's gradient is clipped before every step. Under
    AMP that is after unscaling, since `GradScaler.step` unscales before it calls the optimizer.
    """
    solver = cfg.SOLVER
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, decay in _decayed_parameters(cfg, model):
        groups.setdefault(decay, []).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()],
        lr=solver.BASE_LR,
        eps=solver.OPTIMIZER_EPS,
    )
    if solver.CLIP_GRADIENTS.ENABLED:
        parameters = [parameter for group in groups.values() for parameter in group]

        def clip(*_: Any) -> None:
            clip_grad_norm_(parameters, solver.CLIP_GRADIENTS.CLIP_VALUE)

        optimizer.register_step_pre_hook(clip)
    return optimizer


def _decayed_parameters(cfg: CfgNode, model: nn.Module) -> list[tuple[nn.Parameter, float]]:
    """Every trainable parameter once, with its weight decay."""
    seen: dict[nn.Parameter, float] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            if isinstance(module, NORMS):
                seen[parameter] = cfg.SOLVER.WEIGHT_DECAY_NORM
            elif isinstance(module, EMBEDDINGS):
                seen[parameter] = cfg.SOLVER.WEIGHT_DECAY_EMBED
            else:
                seen[parameter] = cfg.SOLVER.WEIGHT_DECAY
    return list(seen.items())
