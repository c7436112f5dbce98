"""Words for which nothing was found in an image, and why.

Shapes: Q masks, K classes of the vocabulary, B background words behind them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from possam.models import Prediction
from possam.vocabulary import Hierarchy

__all__ = ["MissingWord", "find_missing", "missing_in_both", "tell_missing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingWord:
    """A class without a segment: the mask that it fits best, and what kept this mask from getting its name.

    Attributes:
        label, label_id: display name, and position in the vocabulary.
        query: which of the model's masks has the best score for it. score: this score, in [0, 1].
        cause: "background": a background word has a better score for this mask; "word": another class of the vocabulary
            has; "void": void is more probable than the score; "threshold": the score is not above the threshold;
            "overlap": other masks took so many of its pixels that it was dropped.
        winner, winner_score: the name with the best score for this mask, and that score; the class itself where none
            is better.
        threshold: score above which a mask is kept.
    """

    label: str
    label_id: int
    query: int
    score: float
    cause: str
    winner: str
    winner_score: float
    threshold: float

    @property
    def reason(self) -> str:
        """The same as a sentence."""
        best = f"Nothing was found for {self.label!r}: its best mask (score {self.score:.2f})"
        if self.cause in ("background", "word"):
            whose = "a name from the training" if self.cause == "background" else "another of the words"
            return f"{best} looks more like {self.winner!r} ({self.winner_score:.2f}), {whose}."
        if self.cause == "void":
            return f"{best} is more probably no object at all."
        if self.cause == "threshold":
            return f"{best} is not above the threshold {self.threshold:.2f}."
        return f"{best} lost its pixels to other masks."

    def to_dict(self) -> dict[str, Any]:
        """The same as strings and numbers, for JSON; with "reason"."""
        return {**asdict(self), "reason": self.reason}


def tell_missing(missing: Sequence[MissingWord], few: int = 5) -> list[str]:
    """Describe the first few words in a sentence each, and the number of the others in one."""
    others = len(missing) - few
    more = [f"Nothing was found for {others} other {'word' if others == 1 else 'words'}."] if others > 0 else []
    return [*(word.reason for word in missing[:few]), *more]


def missing_in_both(
    several: Collection[MissingWord] | None, image: Collection[MissingWord]
) -> tuple[MissingWord, ...]:
    """The words that were found neither in several images, None for no image yet, nor in the next one; each as of the
    image with its best mask."""
    if several is None:
        return tuple(image)
    here = {word.label_id: word for word in image}
    both = ((word, here[word.label_id]) for word in several if word.label_id in here)
    return tuple(max(pair, key=lambda word: word.score) for pair in both)


def find_missing(
    prediction: Prediction,
    scores: Tensor,
    ranked: Tensor,
    found: Collection[int],
    *,
    threshold: float,
    void_competes: bool = False,
    hierarchy: Hierarchy | None = None,
) -> tuple[MissingWord, ...]:
    """Explain why classes have no segment.

    Args:
        scores: Q×(K+B) float in [0, 1], of the ensemble.
        ranked: Q×(K+B) float in [0, 1], by which masks were merged: the same, but for a hierarchy.
        found: the classes that have a segment; of a hierarchy all nodes on the segments' paths.
        threshold, void_competes: with which masks were merged (`Postprocessor`).
        hierarchy: of which the classes are nodes.

    Returns:
        An entry for each of the K classes that is not in `found`, in their order.
    """
    names, words = prediction.vocabulary.display_names, len(prediction.vocabulary) - prediction.inputs.background
    absent = [label for label in range(words) if label not in found]
    values, queries = (part.tolist() for part in scores[:, absent].max(dim=0))
    best, winner = (part.tolist() for part in ranked.max(dim=1))
    void = prediction.inputs.void.tolist()
    missing = []
    for label, score, query in zip(absent, values, queries, strict=True):
        first = winner[query]
        if first >= words:
            cause = "background"
        elif first != label and not (hierarchy and label in hierarchy.path_to(first)):
            cause = "word"
        elif void_competes and void[query] > best[query]:
            cause = "void"
        else:
            cause = "overlap" if best[query] > threshold else "threshold"
        missing.append(
            MissingWord(
                label=names[label],
                label_id=label,
                query=query,
                score=score,
                cause=cause,
                winner=names[first],
                winner_score=best[query],
                threshold=threshold,
            )
        )
    return tuple(missing)
