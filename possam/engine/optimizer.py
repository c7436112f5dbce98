"""AdamW with the recipe's weight-decay groups (METHOD.md 1, training recipe)."""

from __future__ import annotations

import torch
from torch import nn

from possam.classifiers import CosineClassifier, LocalDiscriminativePooling
from possam.d2.config import CfgNode

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.SyncBatchNorm)
# LDP's own parameter is its stream embedding; the classifier's are the void embedding and the temperature.
EMBEDDINGS = (nn.Embedding, LocalDiscriminativePooling, CosineClassifier)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; norms and embeddings get their own weight decay."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, decay in _decayed_parameters(cfg, model):
        groups.setdefault(decay, []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()],
        lr=cfg.SOLVER.BASE_LR,
        eps=cfg.SOLVER.OPTIMIZER_EPS,
    )


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
