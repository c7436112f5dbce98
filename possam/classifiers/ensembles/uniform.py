"""One weight of CLIP for every mask and class (METHOD.md 1.9)."""

from __future__ import annotations

import torch
from torch import Tensor

from possam.classifiers.inputs import ClassificationInputs

from .base import PosteriorEnsemble, in_range, register_ensemble


@register_ensemble("uniform")
class Uniform(PosteriorEnsemble):
    """λ = ``level`` for all masks that CLIP sees, 0 for those it does not.

    Args:
        level: λ in [0, 1]; METHOD.md has 0.5.
    """

    def __init__(self, *, level: float = 0.5, kappa: float = 1.0, eta: float = 0.0) -> None:
        super().__init__(kappa=kappa, eta=eta)
        self.level = in_range("level", level, least=0.0, most=1.0)

    def _clip_weight(self, inputs: ClassificationInputs) -> Tensor:
        return torch.full((inputs.iou.shape[0], 1), self.level, device=inputs.iou.device)
