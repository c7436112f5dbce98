"""FC-CLIP's geometric ensemble (METHOD.md 1.9)."""

from __future__ import annotations

import torch
from torch import Tensor

from possam.classifiers.inputs import ClassificationInputs

from .base import PosteriorEnsemble, in_range, register_ensemble


@register_ensemble("geometric")
class Geometric(PosteriorEnsemble):
    """λ_k = α for classes that share a name with the training vocabulary, β for the others.

    r_ik ∝ p_ik^(1−α)·q_ik^α for seen and p_ik^(1−β)·q_ik^β for unseen classes, normalized over all k
    together. With κ = 1 and η = 0 these are FC-CLIP's scores; masks that CLIP has no pixel of take λ = 0,
    which FC-CLIP does under its option ENSEMBLE_ON_VALID_MASK.

    Args:
        alpha: λ of seen classes, in [0, 1].
        beta: λ of unseen classes, in [0, 1].
    """

    def __init__(
        self, *, alpha: float = 0.4, beta: float = 0.8, kappa: float = 1.0, eta: float = 0.0
    ) -> None:
        super().__init__(kappa=kappa, eta=eta)
        self.alpha = in_range("alpha", alpha, least=0.0, most=1.0)
        self.beta = in_range("beta", beta, least=0.0, most=1.0)

    def _clip_weight(self, inputs: ClassificationInputs) -> Tensor:
        alpha = torch.tensor(self.alpha, device=inputs.iou.device)
        beta = torch.tensor(self.beta, device=inputs.iou.device)
        return torch.where(inputs.exact_seen, alpha, beta)
