"""Choose and score background words, and drop what they win (METHOD.md 1.10).

Shapes: Q masks, K classes of the vocabulary, B background words behind them; H×W the output.
"""

from __future__ import annotations

from collections.abc import Collection
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from possam.models import OpenVocabularySegmenter, Prediction
from possam.vocabulary import Hierarchy, Vocabulary, table_names
from possam.vocabulary.background import background_classes

__all__ = [
    "BACKGROUND_WEIGHT",
    "check_options",
    "choose_background",
    "has_background",
    "merge_words",
    "score_words",
    "won_by_words",
]

BACKGROUND_WEIGHT = 0.3
"""What scores of background words are multiplied by; chosen on mini_b_selection (docs/tutorials/own_vocabulary.md)."""


def check_options(threshold: float | None, background: bool | None) -> None:
    """Raise ValueError for a threshold or a choice of background words that cannot be used."""
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if threshold is not None and not (number and 0 <= threshold <= 1):
        raise ValueError(
            f"threshold must be a number in [0, 1], the score above which a mask is kept, or None, got {threshold!r}."
        )
    if background is not None and not isinstance(background, bool):
        raise ValueError(
            f"background must be True or False (whether training names compete beside your words), or None, got "
            f"{background!r:.80}."
        )


def has_background(names: Vocabulary | Hierarchy, background: bool | None) -> bool:
    """Whether background words compete beside a vocabulary.

    Args:
        background: the choice. None: they do for words; not for a shipped table of classes, which is meant to name
            everything, nor for a hierarchy, whose upper names are meant for what has no name of its own.
    """
    if background is None:
        return not isinstance(names, Hierarchy) and names.name not in table_names()
    return background


def choose_background(
    model: OpenVocabularySegmenter, names: Vocabulary | Hierarchy, background: bool | None
) -> tuple[int, ...]:
    """Choose the training classes that compete with a vocabulary, by their contiguous ids (`background_classes`).

    Args:
        background: whether there are any; None as of `has_background`.
    """
    vocabulary = names.vocabulary if isinstance(names, Hierarchy) else names
    if not has_background(names, background):
        return ()
    text, train = model.text_bank.embed(vocabulary), model.train_vocabulary
    return background_classes(vocabulary, text, train, model.text_bank.embed(train))


def score_words(
    model: OpenVocabularySegmenter,
    prediction: Prediction,
    ensemble: str | None = None,
    *,
    weight: float = BACKGROUND_WEIGHT,
) -> Tensor:
    """Score masks by an ensemble (`OpenVocabularySegmenter.score`), background words with less weight: Q×(K+B) float32.

    A model favors the classes of its training, which background words are. Their scores are multiplied by
    `weight`, and all scores of a mask brought back to their sum (METHOD.md 1.10): calibrated stacking
    (arXiv:1605.04253) of seen and unseen classes.
    """
    scores = model.score(prediction, ensemble)
    background = prediction.inputs.background
    if not background:
        return scores
    words, others = scores.split([scores.shape[1] - background, background], dim=1)
    weighted = torch.cat([words, weight * others], dim=1)
    return weighted * (scores.sum(dim=1) / weighted.sum(dim=1).clamp(min=torch.finfo(scores.dtype).tiny))[:, None]


def won_by_words(scores: Tensor, words: int) -> Tensor:
    """Whether each mask's best class is one of the first `words` classes, not a background word: Q bool."""
    return scores.argmax(dim=1) < words


def merge_words(
    model: OpenVocabularySegmenter,
    prediction: Prediction,
    scores: Tensor,
    tasks: Collection[str],
    threshold: float | None,
) -> dict[str, Any]:
    """Merge masks as `OpenVocabularySegmenter.postprocess`, and drop what background words win.

    In the panoptic and the semantic segmentation background words compete for pixels first, so that the mask of a word
    does not take an object that a training name fits better; then their pixels become void, 0 and −1. Instances are
    those of masks that a word wins, with the words whose score is above the threshold.

    Args:
        scores: Q×(K+B) float in [0, 1].
        tasks: of "panoptic", "semantic" and "instance".
        threshold: score above which a mask is kept; None for the model's own, which instances do not have.
    """
    words = len(prediction.vocabulary) - prediction.inputs.background
    if not prediction.inputs.background and threshold is None:
        return model.postprocess(prediction, scores, tuple(tasks))
    output = model.postprocess(prediction, scores, tuple(set(tasks) - {"instance"}), threshold)
    if "panoptic_seg" in output:
        ids, segments = output["panoptic_seg"]
        output["panoptic_seg"] = _drop_background(ids, segments, words)
    if "semantic_seg" in output:
        output["semantic_seg"] = output["semantic_seg"].masked_fill(output["semantic_seg"] >= words, -1)
    if "instance" in tasks:
        kept = (scores > (threshold or 0.0)) & won_by_words(scores, words)[:, None]
        kept[:, words:] = False
        found = model.postprocess(prediction, scores * kept, ("instance",))["instances"]
        output["instances"] = found[found.scores > 0]
    return output


def _drop_background(
    ids: Tensor, segments: list[dict[str, Any]], words: int
) -> tuple[Tensor, list[dict[str, Any]]]:
    """A panoptic segmentation, H×W int32 and a dict a segment, without the segments of classes from `words` on; the
    others are numbered anew from 1."""
    kept = [segment for segment in segments if segment["category_id"] < words]
    number = torch.zeros(len(segments) + 1, dtype=ids.dtype, device=ids.device)
    for place, segment in enumerate(kept, start=1):
        number[segment["id"]] = place
    return number[ids.long()], [{**segment, "id": place} for place, segment in enumerate(kept, start=1)]
