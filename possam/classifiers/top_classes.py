"""The best classes of every mask from a vocabulary that is looked at in parts.

Shapes: Q masks of one image, K classes of the vocabulary, n classes of a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from possam.vocabulary import ClassEmbeddings

from .ensembles import Ensemble
from .inputs import ClassificationInputs

__all__ = ["ClassificationParts", "TopClasses", "streamed_top_k", "top_classes"]


class TopClasses(NamedTuple):
    """The best classes of every mask, best first: Q×k float32 in [0, 1], and Q×k int64 class ids."""

    scores: Tensor
    classes: Tensor


@dataclass(frozen=True, kw_only=True)
class ClassificationParts:
    """The inputs of an ensemble in parts of the vocabulary, each made when it is its turn; may be iterated repeatedly.

    Args:
        query_embeddings, clip_embeddings, iou, clip_empty, train_text, query_scale, clip_scale: as of
            `ClassificationInputs`.
        text, exact_seen: of the whole vocabulary.
        classify: from Q×D query embeddings and the text of n classes to Q×(n+1) logits, the last one void.
        classes_per_part: n; a part takes a few matrices of Q×n float32, 2 MB each for 250 masks and 2,048 classes.
    """

    query_embeddings: Tensor
    clip_embeddings: Tensor
    iou: Tensor
    clip_empty: Tensor
    text: ClassEmbeddings
    train_text: ClassEmbeddings
    exact_seen: Tensor
    classify: Callable[[Tensor, ClassEmbeddings], Tensor]
    query_scale: float
    clip_scale: float
    classes_per_part: int = 2048

    def __post_init__(self) -> None:
        if self.classes_per_part < 1:
            raise ValueError(f"classes_per_part must be at least 1, got {self.classes_per_part}")

    def __iter__(self) -> Iterator[ClassificationInputs]:
        for classes, text in self.text.parts(self.classes_per_part):
            yield ClassificationInputs(
                query_embeddings=self.query_embeddings,
                clip_embeddings=self.clip_embeddings,
                query_logits=self.classify(self.query_embeddings, text),
                clip_logits=text.logits(self.clip_embeddings, self.clip_scale),
                iou=self.iou,
                clip_empty=self.clip_empty,
                text=text,
                train_text=self.train_text,
                query_scale=self.query_scale,
                clip_scale=self.clip_scale,
                exact_seen=self.exact_seen[classes],
            )


def top_classes(ensemble: Ensemble, parts: Iterable[ClassificationInputs], k: int = 5) -> TopClasses:
    """The k best scores of an ensemble and their classes, as of its Q×K scores, which are never held.

    Args:
        parts: of the vocabulary in its order, to be iterated repeatedly: a `ClassificationParts`, or a list.
        k: at least 1; where there are fewer classes, all are returned.

    Raises:
        ValueError: k < 1, or the ensemble cannot score a vocabulary in parts.
    """
    weight, logits = ensemble.in_parts(parts)
    probabilities, classes = streamed_top_k(logits, k)
    return TopClasses(probabilities * weight[:, None], classes)


def streamed_top_k(parts: Iterable[Tensor], k: int) -> TopClasses:
    """The k most probable classes by the softmax over all parts of the logits, with its exact normalization.

    The logsumexp of all logits and the k largest are carried from part to part, so that one part is held at a time.

    Args:
        parts: Q×n float logits each, any n ≥ 1.
        k: at least 1; where there are fewer classes, all are returned.

    Returns:
        Softmax probabilities and classes, which count through all parts; of equals the lower class comes first.

    Raises:
        ValueError: k < 1, or there is no part.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    total: Tensor | None = None
    best, classes, first = torch.empty(0), torch.empty(0, dtype=torch.int64), 0
    for part in parts:
        part = part.float()
        own = torch.arange(first, first + part.shape[1], device=part.device).expand(part.shape)
        first += part.shape[1]
        if total is None:
            total, candidates, labels = part.logsumexp(dim=1), part, own
        else:
            total = torch.logaddexp(total, part.logsumexp(dim=1))
            candidates, labels = torch.cat([best, part], dim=1), torch.cat([classes, own], dim=1)
        best, order = (found[:, :k] for found in candidates.sort(dim=1, descending=True, stable=True))
        classes = labels.gather(1, order)
    if total is None:
        raise ValueError("a vocabulary in parts needs at least one part, got none")
    return TopClasses((best - total[:, None]).exp(), classes)
