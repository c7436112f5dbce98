"""Embedding Modulation (METHOD.md 2.5, 2.6; arXiv:2303.11324, 3.3).

Shapes: Q masks of one image, K classes in use, D width of CLIP's joint space.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from possam.classifiers.inputs import ClassificationInputs
from possam.vocabulary import ClassEmbeddings

from .base import Ensemble, in_range, register_ensemble, weight, weight_in_parts

# Where the cosine to every training class is not positive there is no power b; such a class counts as if it
# were this close.
_FARTHEST = 1e-2


@register_ensemble("modulation")
class EmbeddingModulation(Ensemble):
    """Fuses embeddings instead of probabilities: E_m = E_q + a·(1 − s)·E_c, then debiases the logits.

    s, one number for a vocabulary, is the mean over its classes of the highest cosine to any training class;
    where a class has several names its closest pair of names counts, and background words do not count. E_q is the
    embedding of the trained class head, logits are z_i = τ·cos(E_m, t_i) with that head's τ, so that on the
    training vocabulary (s = 1) they are its own. Debiasing: z_i ← z_i / (max_n cos(t_i, t_n^train))^b. The score is
    (1 − v)·softmax(κ·z)·s_i^η, with v of the trained classifier and s_i the predicted IoU, as in the other
    ensembles (the mask filter `cls_iou`, METHOD.md 2.7, is η = 1). A mask with no pixel at CLIP's resolution keeps
    E_m = E_q.

    Args:
        ratio: a ≥ 0.
        debias: b ≥ 0; 0 switches debiasing off.
        kappa: κ > 0, sharpens the fused logits.
        eta: η ≥ 0, weight of the IoU in the score.
    """

    def __init__(
        self, *, ratio: float = 10.0, debias: float = 0.5, kappa: float = 1.0, eta: float = 0.0
    ) -> None:
        self.ratio = in_range("ratio", ratio, least=0.0)
        self.debias = in_range("debias", debias, least=0.0)
        self.kappa = in_range("kappa", kappa, above=0.0)
        self.eta = in_range("eta", eta, least=0.0)

    def explain(self, inputs: ClassificationInputs) -> dict[str, Tensor]:
        """``clip_weight``: CLIP's share a(1−s) / (1 + a(1−s)) of the fused embedding, Q float32 in [0, 1)."""
        similarity = class_similarity(inputs.text, inputs.train_text)
        amount = self._amount(inputs.clip_empty, _asked(similarity, inputs)).squeeze(1)
        return {"clip_weight": amount / (1 + amount)}

    def __call__(self, inputs: ClassificationInputs) -> Tensor:
        with torch.autocast(device_type=inputs.iou.device.type, enabled=False):
            similarity = class_similarity(inputs.text, inputs.train_text)
            asked = _asked(similarity, inputs)
            modulated = self.fuse(inputs.query_embeddings, inputs.clip_embeddings, inputs.clip_empty, asked)
            logits = inputs.text.logits(modulated, inputs.query_scale)
            logits = logits / similarity.clamp(min=_FARTHEST) ** self.debias
            return (self.kappa * logits).softmax(dim=-1) * weight(inputs, self.eta).unsqueeze(1)

    def fuse(self, query: Tensor, clip: Tensor, clip_empty: Tensor, similarity: Tensor) -> Tensor:
        """E_m = E_q + a·(1 − s)·E_c, Q×D float32, not normalized.

        Args:
            query, clip: E_q and E_c, Q×D float of any length.
            clip_empty: Q bool, True for masks without a pixel at CLIP's resolution, whose E_m is E_q.
            similarity: `class_similarity` of the vocabulary in use, K float32, whose mean is s.
        """
        query, clip = (F.normalize(x.float(), dim=-1) for x in (query, clip))
        return query + self._amount(clip_empty, similarity) * clip

    def in_parts(self, parts: Iterable[ClassificationInputs]) -> tuple[Tensor, Iterator[Tensor]]:
        similarity = [class_similarity(part.text, part.train_text) for part in parts]
        first = next(iter(parts))
        modulated = self.fuse(first.query_embeddings, first.clip_embeddings, first.clip_empty, torch.cat(similarity))

        def logits() -> Iterator[Tensor]:
            for part, own in zip(parts, similarity, strict=True):
                raw = part.text.logits(modulated, part.query_scale)
                yield self.kappa * raw / own.clamp(min=_FARTHEST) ** self.debias

        return weight_in_parts(parts, self.eta), logits()

    def _amount(self, clip_empty: Tensor, similarity: Tensor) -> Tensor:
        """a·(1 − s) for masks that CLIP sees, 0 for the others: Q×1."""
        amount = self.ratio * (1 - similarity.mean())
        return amount * (~clip_empty).float().unsqueeze(1)


def _asked(similarity: Tensor, inputs: ClassificationInputs) -> Tensor:
    """The similarity of the classes that are no background words."""
    return similarity[: -inputs.background] if inputs.background else similarity  # a length is a constant in exports


def class_similarity(text: ClassEmbeddings, train_text: ClassEmbeddings) -> Tensor:
    """max_n cos(t_k, t_n^train) for every class k of `text`: K float32 in [−1, 1]."""
    nearest = train_text.nearest(text.embeddings)
    # A name and itself differ from 1 by rounding, and s must be exactly 1 on the training vocabulary.
    nearest = torch.where(nearest > 1 - 1e-6, torch.ones_like(nearest), nearest)
    return text.max_over_names(nearest)
