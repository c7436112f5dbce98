"""Frozen CLIP alone (METHOD.md 1.9)."""

from __future__ import annotations

import torch
from torch import Tensor

from possam.classifiers.inputs import ClassificationInputs

from .base import PosteriorEnsemble, register_ensemble


@register_ensemble("clip")
class ClipOnly(PosteriorEnsemble):
    """λ = 1: scores (1 − v)·q·s^η. A mask too small for CLIP to have a pixel of keeps LDP's opinion."""

    def _clip_weight(self, inputs: ClassificationInputs) -> Tensor:
        return torch.ones(inputs.iou.shape[0], 1, device=inputs.iou.device)
