"""The registry of whole models."""

from typing import Any

import torch
from torch import nn

from ...utils.registry import Registry

META_ARCH_REGISTRY: Registry = Registry("META_ARCH")


def build_model(cfg: Any) -> nn.Module:
    """Build the model ``cfg.MODEL.META_ARCHITECTURE`` on ``cfg.MODEL.DEVICE``, without loading weights."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))
