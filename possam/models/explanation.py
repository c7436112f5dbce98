"""Explanation of a mask's name: the scores of the trained classifier, of CLIP and of their ensemble (METHOD.md 1.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from possam.models import OpenVocabularySegmenter, Prediction

__all__ = ["Candidate", "MaskExplanation", "explain_mask"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A name that a mask might get: its place in the vocabulary, its probability in [0, 1], and whether training
    showed the class."""

    label: str
    label_id: int
    probability: float
    seen: bool


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
        confidence: c, that training showed such a thing; None where the ensemble does not ask.
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
        decision = f"with CLIP weighted by {self.clip_weight:.2f}, {self.ensemble} chooses {_said(chosen)}."
        if trained.label_id == clip.label_id:
            both = f"The trained classifier ({trained.probability:.2f}) and CLIP ({clip.probability:.2f})"
            return f"{both} agree on {trained.label}; {decision}"
        return f"The trained classifier says {_said(trained)}, CLIP says {_said(clip)}; {decision}"

    def to_dict(self) -> dict[str, Any]:
        """The same as dicts, lists, strings and numbers, for JSON; with "reason"."""
        return {**asdict(self), "reason": self.reason}


def explain_mask(
    model: OpenVocabularySegmenter,
    prediction: Prediction,
    scores: Tensor,
    query: int,
    *,
    ensemble: str | None = None,
    top: int = 5,
) -> MaskExplanation:
    """Explain any mask of a prediction, also one that became no segment.

    Args:
        scores: Q×K float32, what `ensemble` made of the prediction (`OpenVocabularySegmenter.score`).
        query: which of the Q masks.
        ensemble: its name; by default the model's own.
        top: how many names to list of each.

    Raises:
        ValueError: there is no such query, or no name to list.
    """
    inputs, vocabulary = prediction.inputs, prediction.vocabulary
    if top < 1:
        raise ValueError(f"expected top ≥ 1 names to list, but got {top}.")
    if query not in range(len(inputs.iou)):
        raise ValueError(f"there is no query {query}; the model has {len(inputs.iou)}, counted from 0.")
    name = ensemble or model.ensemble
    seen = vocabulary.seen(model.train_vocabulary)
    explained = {key: float(value[query]) for key, value in model.find_ensemble(name).explain(inputs).items()}
    logits = inputs.query_logits[query].float()

    def most(probabilities: Tensor) -> tuple[Candidate, ...]:
        return _most_probable(probabilities, vocabulary.display_names, seen, top)

    # Scores are r times something that is the same for all classes; 0 where that is 0.
    final = most(scores[query].float() / scores[query].float().sum().clamp(min=1e-12))
    return MaskExplanation(
        query=query,
        label=final[0].label,
        score=float(scores[query].max()),
        in_vocabulary=most(logits[:-1].softmax(dim=0)),
        clip=most(inputs.clip_logits[query].float().softmax(dim=0)),
        final=final,
        ensemble=name,
        iou=float(inputs.iou[query]),
        void=float(logits.softmax(dim=0)[-1]),
        clip_weight=explained["clip_weight"],
        confidence=explained.get("confidence"),
        clip_sees=not bool(inputs.clip_empty[query]),
    )


def _most_probable(
    probabilities: Tensor, names: Sequence[str], seen: Sequence[bool], count: int
) -> tuple[Candidate, ...]:
    # The first of equals, as the merging takes it.
    values, order = (part[:count] for part in probabilities.sort(descending=True, stable=True))
    return tuple(
        Candidate(label=names[k], label_id=k, probability=p, seen=seen[k])
        for p, k in zip(values.tolist(), order.tolist(), strict=True)
    )


def _said(candidate: Candidate) -> str:
    return f"{candidate.label} ({candidate.probability:.2f})"
