"""Naive sums of query and CLIP embeddings (METHOD.md 2.8; arXiv:2303.11324, Table 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from possam.classifiers.inputs import ClassificationInputs

from .base import Ensemble, in_range, register_ensemble, weight, weight_in_parts


@register_ensemble("embedding_sum")
class EmbeddingSum(Ensemble):
    """E = E_q + k·E_c, whatever the vocabulary; logits z_i = τ·cos(E, t_i) with the in-vocabulary τ.

    The score is (1 − v)·softmax(κ·z)·s^η, as in the other ensembles. A mask with no pixel at CLIP's resolution keeps
    E = E_q.

    Args:
        ratio: k ≥ 0; the paper has 1 to 4, and 0 is the query embedding alone.
        kappa: κ > 0, sharpens the logits.
        eta: η ≥ 0, weight of the IoU in the score.
    """

    def __init__(self, *, ratio: float = 1.0, kappa: float = 1.0, eta: float = 0.0) -> None:
        self.ratio = in_range("ratio", ratio, least=0.0)
        self.kappa = in_range("kappa", kappa, above=0.0)
        self.eta = in_range("eta", eta, least=0.0)

    def explain(self, inputs: ClassificationInputs) -> dict[str, Tensor]:
        """``clip_weight``: CLIP's share k / (1 + k) of the summed embedding, Q float32 in [0, 1)."""
        amount = self._amount(inputs).squeeze(1)
        return {"clip_weight": amount / (1 + amount)}

    def __call__(self, inputs: ClassificationInputs) -> Tensor:
        with torch.autocast(device_type=inputs.iou.device.type, enabled=False):
            return self._logits(inputs).softmax(dim=-1) * weight(inputs, self.eta).unsqueeze(1)

    def in_parts(self, parts: Iterable[ClassificationInputs]) -> tuple[Tensor, Iterator[Tensor]]:
        return weight_in_parts(parts, self.eta), map(self._logits, parts)

    def _logits(self, inputs: ClassificationInputs) -> Tensor:
        """κ·z, Q×K float32."""
        query = F.normalize(inputs.query_embeddings.float(), dim=-1)
        clip = F.normalize(inputs.clip_embeddings.float(), dim=-1)
        return self.kappa * inputs.text.logits(query + self._amount(inputs) * clip, inputs.query_scale)

    def _amount(self, inputs: ClassificationInputs) -> Tensor:
        """k for masks that CLIP sees, 0 for the others: Q×1."""
        return self.ratio * (~inputs.clip_empty).float().unsqueeze(1)
