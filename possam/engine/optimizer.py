"""AdamW with the recipe's weight-decay groups (METHOD.md 1, training recipe)."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

from possam.classifiers import CosineClassifier, LocalDiscriminativePooling
from possam.d2.config import CfgNode

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.SyncBatchNorm)
# LDP's own parameter is its stream embedding; the classifier's are the void embedding and the temperature.
EMBEDDINGS = (nn.Embedding, LocalDiscriminativePooling, CosineClassifier)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; norms and embeddings get their own weight decay."""
    return torch.optim.AdamW(
        [{"params": parameters, "weight_decay": decay} for decay, parameters in _groups(cfg, model).items()],
        lr=cfg.SOLVER.BASE_LR,
        eps=cfg.SOLVER.OPTIMIZER_EPS,
    )


def present_settings(
    optimizer: torch.optim.Optimizer, state: dict[str, Any], *, model: nn.Module, saved: CfgNode
) -> dict[str, Any]:
    """A saved state of the optimizer with the present learning rates, weight decays and other settings.

    Other weight decays may group the parameters otherwise; what the state has of each parameter stays with it.

    Args:
        optimizer: the present one, of `build_optimizer`.
        state: what another one's state_dict gave.
        model: that of both.
        saved: the configuration of that other one.

    Raises:
        ValueError: the state is of other groups than those of `saved`.
    """
    groups = list(_groups(saved, model).values())
    sizes = [len(parameters) for parameters in groups]
    if sizes != (found := [len(group["params"]) for group in state["param_groups"]]):
        raise ValueError(
            f"The checkpoint's optimizer has groups of {found} parameters, but SOLVER.WEIGHT_DECAY, WEIGHT_DECAY_NORM "
            f"and WEIGHT_DECAY_EMBED make groups of {sizes}; set them as they were."
        )
    places = {parameter: place for place, parameter in enumerate(itertools.chain(*groups))}
    present = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries = {place: state["state"].get(places[parameter]) for place, parameter in enumerate(present)}
    kept = {place: entry for place, entry in entries.items() if entry is not None}
    return {"state": kept, "param_groups": optimizer.state_dict()["param_groups"]}


def _groups(cfg: CfgNode, model: nn.Module) -> dict[float, list[nn.Parameter]]:
    """Trainable parameters by their weight decay."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, decay in _decayed_parameters(cfg, model):
        groups.setdefault(decay, []).append(parameter)
    return groups


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
