"""What became of every annotated segment: found and named right, found under another name, or not found.

Shapes: H×W the image, G annotated and P predicted segments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.evaluation.panoptic_quality import PanopticCounts, SegmentMatches, match_segments

__all__ = ["Confusion", "ImageReview", "Outcome", "confusions", "fates", "review_image"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one annotated segment, which is no crowd.

    Attributes:
        segment: its position in the annotation.
        category: its class.
        named: the class of the prediction whose IoU with it is over 0.5; None where there is none.
        iou: that IoU, or 0.
    """

    segment: int
    category: int
    named: int | None
    iou: float

    @property
    def fate(self) -> str:
        """ "right", "misnamed" or "missed"."""
        if self.named is None:
            return "missed"
        return "right" if self.named == self.category else "misnamed"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageReview:
    """One image's predictions against its annotation.

    Attributes:
        counts: n×5, as `SegmentMatches.counts` gives it.
        pq: panoptic quality of this image in percent, the mean over the classes that it or its prediction has;
            NaN where there are none.
        outcomes: of every annotated segment that is no crowd.
        extra: classes of predictions that are false positives and whose IoU with no annotated segment is over 0.5.
            Together with those that misnamed a segment, they are all false positives of `counts`.
        ious: n×2, predicted and true IoU of the predicted segments whose IoU was written, without those that panoptic
            quality excuses for void or crowd, since nothing is known of them.
    """

    image_id: Any
    counts: NDArray[np.float64]
    pq: float
    outcomes: tuple[Outcome, ...]
    extra: tuple[int, ...]
    ious: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A class that was taken for another: how often, and of how many annotated segments of the class.

    `examples` are (image id, segment), those with the highest IoU first.
    """

    category: int
    named: int
    count: int
    of: int
    examples: tuple[tuple[Any, int], ...]


def review_image(
    image_id: Any,
    *,
    truth: NDArray[np.int64],
    truth_segments: Sequence[Mapping[str, Any]],
    prediction: NDArray[np.int64],
    predicted_classes: Sequence[int],
    predicted_iou: Sequence[float | None],
    num_classes: int,
) -> ImageReview:
    """Compare one image's prediction with its annotation.

    Args:
        truth: H×W, 0 for void, ``i + 1`` for annotated segment i.
        truth_segments: G dicts with a contiguous ``category_id``, ``iscrowd``, and perhaps ``area``.
        prediction: H×W, 0 for no segment, ``j + 1`` for predicted segment j, each of which has a pixel.
        predicted_classes: P contiguous classes.
        predicted_iou: P IoUs that the model expected, in [0, 1], or None.
    """
    classes = np.array([segment["category_id"] for segment in truth_segments], dtype=np.int64)
    crowd = np.array([segment.get("iscrowd", 0) for segment in truth_segments], dtype=bool)
    areas = np.array([segment.get("area", -1) for segment in truth_segments], dtype=np.int64)
    names = np.array(predicted_classes, dtype=np.int64)
    matches = match_segments(
        truth=truth,
        truth_classes=classes,
        truth_crowd=crowd,
        truth_areas=areas,
        prediction=prediction,
        prediction_classes=names,
    )
    counts, best = matches.counts(), matches.iou.max(axis=0, initial=0)
    extra = matches.false_positive & ~matches.same_segment.any(axis=0)
    return ImageReview(
        image_id=image_id,
        counts=counts,
        pq=_quality(counts, num_classes),
        outcomes=tuple(_outcome(i, matches) for i in np.flatnonzero(~crowd).tolist()),
        extra=tuple(names[extra].tolist()),
        ious=np.array(
            [
                (expected, best[j])
                for j, expected in enumerate(predicted_iou)
                if expected is not None and not matches.ignored[j]
            ]
        ).reshape(-1, 2),
    )


def fates(reviews: Iterable[ImageReview], num_classes: int) -> dict[str, NDArray[np.int64]]:
    """How many annotated segments of each class were found and named "right", "misnamed" or "missed": K int64 each."""
    table = {fate: np.zeros(num_classes, dtype=np.int64) for fate in ("right", "misnamed", "missed")}
    for review in reviews:
        for outcome in review.outcomes:
            table[outcome.fate][outcome.category] += 1
    return table


def confusions(reviews: Sequence[ImageReview], *, examples: int = 3) -> list[Confusion]:
    """Which class is taken for which, the most frequent first."""
    totals: Counter[int] = Counter()
    pairs: dict[tuple[int, int], list[tuple[float, Any, int]]] = {}
    for review in reviews:
        for outcome in review.outcomes:
            totals[outcome.category] += 1
            if outcome.fate == "misnamed":
                assert outcome.named is not None
                example = (outcome.iou, review.image_id, outcome.segment)
                pairs.setdefault((outcome.category, outcome.named), []).append(example)
    found = [
        Confusion(
            category=category,
            named=named,
            count=len(cases),
            of=totals[category],
            examples=tuple(case[1:] for case in sorted(cases, key=lambda case: -case[0])[:examples]),
        )
        for (category, named), cases in pairs.items()
    ]
    return sorted(found, key=lambda confusion: (-confusion.count, confusion.category, confusion.named))


def _outcome(i: int, matches: SegmentMatches) -> Outcome:
    found = np.flatnonzero(matches.same_segment[i])
    return Outcome(
        segment=i,
        category=int(matches.truth_classes[i]),
        named=int(matches.prediction_classes[found[0]]) if len(found) else None,
        iou=float(matches.iou[i, found[0]]) if len(found) else 0.0,
    )


def _quality(counts: NDArray[np.float64], num_classes: int) -> float:
    values = PanopticCounts.total([counts], num_classes).per_class()["PQ"]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")
