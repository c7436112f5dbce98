"""LDP alone (METHOD.md 1.9)."""

from __future__ import annotations

import torch
from torch import Tensor

from possam.classifiers.inputs import ClassificationInputs

from .base import PosteriorEnsemble, register_ensemble


@register_ensemble("ldp")
class LdpOnly(PosteriorEnsemble):
    """λ = 0: scores (1 − v)·p^κ·s^η, p^κ normalized."""

    def _clip_weight(self, inputs: ClassificationInputs) -> Tensor:
        return torch.zeros(inputs.iou.shape[0], 1, device=inputs.iou.device)
