"""Explanation of a mask's name: the scores of the trained classifier, of CLIP and of their ensemble (METHOD.md 1.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from possam.models import OpenVocabularySegmenter, Prediction
from possam.vocabulary import Vocabulary

__all__ = ["Candidate", "MaskExplanation", "MaskScores", "explain_mask", "mask_scores"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A name that a mask might get: its place in the vocabulary, its probability in [0, 1], whether training showed
    the class, and whether it is a background word, which are numbered behind the vocabulary's classes."""

    label: str
    label_id: int
    probability: float
    seen: bool
    background: bool = False


@dataclass(frozen=True, kw_only=True)
class MaskExplanation:
    """What decided on a mask's name, as plain data. All numbers are in [0, 1].

    Attributes:
        query: which of the model's queries drew the mask.
        label, score: the name it got, and (1 − v)·r·s^η, the score that goes with it.
        in_vocabulary, clip, final: the most probable names by p of the trained classifier, by q of CLIP, and by r of
            the ensemble, best first; each is a distribution over the whole vocabulary.
        ensemble: which one made r of p and q.
        iou: s, the predicted IoU of the mask. void: v, the trained classifier's probability that it is nothing.
        clip_weight: λ, the weight of CLIP in the ensemble (the mean, where it differs among classes).
        confidence: c, an estimate that training showed such a thing, whatever `Candidate.seen` says of a name; None
            where the ensemble does not ask.
        clip_sees: False for a mask without a pixel at CLIP's resolution, whose q means nothing.
    """

    query: int
    label: str
    score: float
    in_vocabulary: tuple[Candidate, ...]
    clip: tuple[Candidate, ...]
    final: tuple[Candidate, ...]
    ensemble: str
    iou: float
    void: float
    clip_weight: float
    confidence: float | None
    clip_sees: bool

    @property
    def reason(self) -> str:
        """The explanation as a sentence or two."""
        trained, clip, chosen = self.in_vocabulary[0], self.clip[0], self.final[0]
        if not self.clip_sees:
            return f"The mask is too small for CLIP, so the trained classifier decides alone: {_said(chosen)}."
        less = ", as names of the background count less" if trained.background and clip.background else ""
        less = "" if chosen.background else less
        decision = f"with CLIP weighted by {self.clip_weight:.2f}, {self.ensemble} chooses {_said(chosen)}{less}."
        if trained.label_id == clip.label_id:
            both = f"The trained classifier ({trained.probability:.2f}) and CLIP ({clip.probability:.2f})"
            return f"{both} agree on {trained.label}; {decision}"
        return f"The trained classifier says {_said(trained)}, CLIP says {_said(clip)}; {decision}"

    def to_dict(self) -> dict[str, Any]:
        """The same as dicts, lists, strings and numbers, for JSON; with "reason"."""
        return {**asdict(self), "reason": self.reason}


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskScores:
    """The scores behind the names of an image's masks, as plain arrays: Q masks, K classes.

    Attributes:
        query_logits: Q×(K+1) float32 logits of the trained classifier, the last of void. clip_logits: Q×K float32.
        scores: Q×K float32 in [0, 1], what the ensemble made of both.
        iou: Q float32 in [0, 1], predicted IoU. clip_weight: Q float32 in [0, 1], λ.
        confidence: Q float32 in [0, 1], that training showed such a thing; None where the ensemble does not ask.
        clip_empty: Q bool, masks without a pixel at CLIP's resolution.
        seen: of each class whether training showed it.
        background: the names of the last ones of the K classes, which are background words.
        ensemble: which one made the scores.
    """

    query_logits: NDArray[np.float32]
    clip_logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    iou: NDArray[np.float32]
    clip_weight: NDArray[np.float32]
    confidence: NDArray[np.float32] | None
    clip_empty: NDArray[np.bool_]
    seen: tuple[bool, ...]
    ensemble: str
    background: tuple[str, ...] = ()


def mask_scores(
    model: OpenVocabularySegmenter, prediction: Prediction, scores: Tensor, ensemble: str | None = None
) -> MaskScores:
    """Collect what explanations of a prediction's masks need.

    Args:
        scores: Q×K float32, what `ensemble` made of the prediction (`OpenVocabularySegmenter.score`).
        ensemble: its name; by default the model's own.
    """
    inputs, name = prediction.inputs, ensemble or model.ensemble
    explained = model.find_ensemble(name).explain(inputs)
    confidence = explained.get("confidence")
    everything = prediction.vocabulary
    count = len(everything) - inputs.background
    asked = replace(everything, categories=everything.categories[:count])  # to which an overlap of tables applies
    return MaskScores(
        query_logits=_array(inputs.query_logits),
        clip_logits=_array(inputs.clip_logits),
        scores=_array(scores),
        iou=_array(inputs.iou),
        clip_weight=_array(explained["clip_weight"]),
        confidence=None if confidence is None else _array(confidence),
        clip_empty=inputs.clip_empty.cpu().numpy(),
        seen=(*asked.seen(model.train_vocabulary), *[True] * inputs.background),
        ensemble=name,
        background=everything.display_names[count:],
    )


def explain_mask(given: MaskScores, vocabulary: Vocabulary, query: int, *, top: int = 5) -> MaskExplanation:
    """Explain any mask of an image, also one that became no segment.

    Args:
        vocabulary: the K classes, without those of the background.
        query: which of the Q masks.
        top: how many names to list of each.

    Raises:
        ValueError: there is no such query, or no name to list.
    """
    if top < 1:
        raise ValueError(f"expected top ≥ 1 names to list, but got {top}.")
    if query not in range(len(given.iou)):
        raise ValueError(f"there is no query {query}; the model has {len(given.iou)}, counted from 0.")
    logits, scores = torch.from_numpy(given.query_logits[query]), torch.from_numpy(given.scores[query])

    def most(probabilities: Tensor) -> tuple[Candidate, ...]:
        names = (*vocabulary.display_names, *given.background)
        return _most_probable(probabilities, names, given.seen, top, background=len(given.background))

    # Scores are r times something that is the same for all classes; 0 where that is 0.
    final = most(scores / scores.sum().clamp(min=1e-12))
    return MaskExplanation(
        query=query,
        label=final[0].label,
        score=float(scores.max()),
        in_vocabulary=most(logits[:-1].softmax(dim=0)),
        clip=most(torch.from_numpy(given.clip_logits[query]).softmax(dim=0)),
        final=final,
        ensemble=given.ensemble,
        iou=float(given.iou[query]),
        void=float(logits.softmax(dim=0)[-1]),
        clip_weight=float(given.clip_weight[query]),
        confidence=None if given.confidence is None else float(given.confidence[query]),
        clip_sees=not bool(given.clip_empty[query]),
    )


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.detach().float().cpu().numpy()


def _most_probable(
    probabilities: Tensor, names: Sequence[str], seen: Sequence[bool], count: int, *, background: int
) -> tuple[Candidate, ...]:
    # The first of equals, as the merging takes it.
    values, order = (part[:count] for part in probabilities.sort(descending=True, stable=True))
    return tuple(
        Candidate(label=names[k], label_id=k, probability=p, seen=seen[k], background=k >= len(names) - background)
        for p, k in zip(values.tolist(), order.tolist(), strict=True)
    )


def _said(candidate: Candidate) -> str:
    return f"{candidate.label} ({candidate.probability:.2f})"
