"""MASE, Mask-Aware Selective Ensembling (METHOD.md 1.9; paper Fig. 4 and Algorithm 1).

Shapes: Q masks of one image, K classes in use, N names of the vocabulary in use, M names of the training one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from possam.classifiers.inputs import ClassificationInputs
from possam.vocabulary import ClassEmbeddings

from .base import PosteriorEnsemble, in_range, logsumexp_of, register_ensemble


@register_ensemble("mase")
class MaskAwareSelectiveEnsemble(PosteriorEnsemble):
    """The weight of CLIP falls, mask by mask, as confidence grows that the mask shows a class seen in training.

    λ_i = α + (β − α)·(1 − c_i)^γ. The confidence c_i follows one of two rules:

    - ``ldp``: c_i = s_i^ρ · max_k p_ik, the paper's ingredients;
    - ``posterior``: c_i = s_i^ρ · u_i with u_i CLIP's softmax mass on the training names among the training
      names and the novel test names. It needs no label and no list of which test classes were seen.

    Args:
        rule: "posterior" or "ldp".
        alpha: λ at full confidence, 0 ≤ α ≤ β.
        beta: λ at none, β ≤ 1.
        gamma: γ > 0, the bend between the two.
        rho: ρ ≥ 0, weight of the predicted IoU in the confidence; 1 is METHOD.md's, 0 leaves it out.
        threshold: a test name is novel where its cosine to every training name is at most this, in [−1, 1].
        kappa: κ > 0, sharpens LDP.
        eta: η ≥ 0, weight of the IoU in the score.

    The defaults of α, β and γ come from trials on the miniature world, κ and η are neutral; choose constants
    on a selection split.
    """

    RULES = ("posterior", "ldp")

    def __init__(
        self,
        *,
        rule: str = "posterior",
        alpha: float = 0.2,
        beta: float = 0.8,
        gamma: float = 1.0,
        rho: float = 1.0,
        threshold: float = 0.9,
        kappa: float = 1.0,
        eta: float = 0.0,
    ) -> None:
        super().__init__(kappa=kappa, eta=eta)
        if rule not in self.RULES:
            raise ValueError(f"unknown confidence rule {rule!r}; the valid ones are {', '.join(self.RULES)}")
        self.rule = rule
        self.alpha = in_range("alpha", alpha, least=0.0, most=1.0)
        self.beta = in_range("beta", beta, least=0.0, most=1.0)
        if self.alpha > self.beta:
            raise ValueError(
                f"alpha must not exceed beta, got {alpha} and {beta}: the weight of CLIP falls with confidence"
            )
        self.gamma = in_range("gamma", gamma, above=0.0)
        self.rho = in_range("rho", rho, least=0.0)
        self.threshold = in_range("threshold", threshold, least=-1.0, most=1.0)

    def confidence(self, inputs: ClassificationInputs) -> Tensor:
        """c: Q float32 in [0, 1]. For a mask that CLIP has no pixel of, ``posterior`` says nothing of use."""
        if self.rule == "ldp":
            familiarity = inputs.query_logits[:, :-1].float().softmax(dim=-1).amax(dim=-1)
        else:
            familiarity = training_mass(inputs, self.threshold)
        return inputs.iou.float().clamp(0, 1) ** self.rho * familiarity

    def _clip_weight(self, inputs: ClassificationInputs) -> Tensor:
        return self._clip_weight_at(self.confidence(inputs))

    def clip_weight_in_parts(self, parts: Iterable[ClassificationInputs]) -> Iterator[Tensor]:
        if self.rule == "ldp":
            total = logsumexp_of(part.query_logits[:, :-1] for part in parts)
            best = torch.stack([part.query_logits[:, :-1].float().amax(dim=-1) for part in parts]).amax(dim=0)
            familiarity = (best - total).exp()
        else:
            masses = [_log_masses(part, self.threshold) for part in parts]
            novel = logsumexp_of([torch.stack([mass for _, mass in masses], dim=1)])
            familiarity = torch.sigmoid(masses[0][0] - novel)
        for part in parts:
            confidence = part.iou.float().clamp(0, 1) ** self.rho * familiarity
            yield self._clip_weight_at(confidence).masked_fill(part.clip_empty.unsqueeze(1), 0.0)

    def _clip_weight_at(self, confidence: Tensor) -> Tensor:
        doubt = (1 - confidence).clamp(0, 1)
        return (self.alpha + (self.beta - self.alpha) * doubt**self.gamma).unsqueeze(1)

    def explain(self, inputs: ClassificationInputs) -> dict[str, Tensor]:
        """``clip_weight``: λ and ``confidence``: c, both Q float32 in [0, 1]."""
        return super().explain(inputs) | {"confidence": self.confidence(inputs)}


def training_mass(inputs: ClassificationInputs, threshold: float) -> Tensor:
    """u: CLIP's softmax mass on the training names (METHOD.md 1.9), Q float32 in [0, 1].

    The softmax runs over the training names and those test names whose nearest training name has a cosine of
    at most ``threshold``: a test name above it is a training name in other words and must not count twice.
    Exactly 1 where no test name is novel.
    """
    familiar, novel = _log_masses(inputs, threshold)
    # e^a / (e^a + e^b) = sigmoid(a − b), which neither overflows nor loses small masses
    return torch.sigmoid(familiar - novel)


def _log_masses(inputs: ClassificationInputs, threshold: float) -> tuple[Tensor, Tensor]:
    """Logsumexp of CLIP's logits of the training names, and of the novel names: Q float32 each."""
    scale, embeddings = inputs.clip_scale, inputs.clip_embeddings
    familiar = (scale * inputs.train_text.cosine(embeddings)).logsumexp(dim=-1)
    novel_names = ~is_familiar(inputs.text, inputs.train_text, threshold)
    logits = scale * inputs.text.cosine(embeddings)
    return familiar, logits.masked_fill(~novel_names, float("-inf")).logsumexp(dim=-1)


def is_familiar(text: ClassEmbeddings, train_text: ClassEmbeddings, threshold: float) -> Tensor:
    """N bool: does the name lie closer than ``threshold`` to some training name?"""
    return train_text.nearest(text.embeddings) > threshold
