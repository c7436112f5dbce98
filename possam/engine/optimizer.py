"""AdamW with the recipe's weight-decay groups (METHOD.md 1, training recipe).

A module declares what the optimizer has to know of it by attributes:
- `embedding_parameters`: names of its own parameters, not those of its children, that are embeddings or otherwise take
  SOLVER.WEIGHT_DECAY_EMBED; those of `nn.Embedding` do anyway;
- `lr_factor`: factor > 0 of the learning rate of all parameters in it and its children, on top of its parents' factors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from possam.d2.config import CfgNode
from possam.encoders import FrozenEncoder
from possam.encoders.state_dicts import not_finite

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.SyncBatchNorm)

_INSTEAD = "Go on from an earlier checkpoint, or start from this one's weights with MODEL.WEIGHTS."


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters, with the weight decay of their kind and the rate of their module."""
    base = cfg.SOLVER.BASE_LR
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "lr": base * factor}
        for (decay, factor), parameters in _groups(cfg, model).items()
    ]
    return torch.optim.AdamW(groups, lr=base, eps=cfg.SOLVER.OPTIMIZER_EPS)


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
        ValueError: the state is missing, or of other groups than those of `saved`, or what it has of a parameter is of
            another shape, or is NaN or infinite.
    """
    if missing := [key for key in ("state", "param_groups") if key not in state]:
        raise ValueError(f"The checkpoint's optimizer has no {' and no '.join(missing)}. {_INSTEAD}")
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
    names = {parameter: name for name, parameter in model.named_parameters()}
    for place, entry in kept.items():
        _check_entry(names[present[place]], entry, present[place].shape)
    return {"state": kept, "param_groups": optimizer.state_dict()["param_groups"]}


def _check_entry(name: str, entry: dict[str, Any], shape: torch.Size) -> None:
    """Check what AdamW keeps of a parameter: with an infinite average it would never change again, unsaid."""
    values = {f"{key} of {name}": value for key, value in entry.items() if key != "step"}
    if odd := [key for key, value in values.items() if value.shape != shape]:
        raise ValueError(
            f"The checkpoint's optimizer has {odd[0]} in shape {tuple(values[odd[0]].shape)}, but the parameter's is "
            f"{tuple(shape)}. {_INSTEAD}"
        )
    if wrong := not_finite(values):
        raise ValueError(f"The checkpoint's optimizer holds values that are NaN or infinite: {wrong}. {_INSTEAD}")


def _groups(cfg: CfgNode, model: nn.Module) -> dict[tuple[float, float], list[nn.Parameter]]:
    """Trainable parameters, each once, by their weight decay and the factor of their learning rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for module, factor in _modules(model, 1.0):
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                groups.setdefault((_decay(cfg, module, name), factor), []).append(parameter)
    return groups


def _modules(module: nn.Module, factor: float) -> Iterator[tuple[nn.Module, float]]:
    """A module and all below it but frozen encoders, parents first, with the factors of their learning rates."""
    if isinstance(module, FrozenEncoder):
        return
    factor *= getattr(module, "lr_factor", 1.0)
    yield module, factor
    for child in module.children():
        yield from _modules(child, factor)


def _decay(cfg: CfgNode, module: nn.Module, name: str) -> float:
    """The weight decay of a module's own parameter."""
    if isinstance(module, NORMS):
        return cfg.SOLVER.WEIGHT_DECAY_NORM
    if isinstance(module, nn.Embedding) or name in getattr(module, "embedding_parameters", ()):
        return cfg.SOLVER.WEIGHT_DECAY_EMBED
    return cfg.SOLVER.WEIGHT_DECAY
