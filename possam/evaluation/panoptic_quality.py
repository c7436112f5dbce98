"""Panoptic quality (Kirillov et al. 2019, "Panoptic Segmentation") with COCO's rules for void and crowd.

The numbers are those of the COCO panoptic API:

- A prediction matches an annotated segment of its class where their IoU is over 0.5; pixels of the prediction
  that are void in the annotation do not count towards the union. Crowd segments match nothing.
- The area of an annotated segment is what the annotation says, which may be more than its pixels: in the field's
  ADE20K, stuff has that of its label map, instances on top of it included.
- A prediction without a match is no false positive where more than half of it is void or crowd of its own
  class (of several crowd segments of a class, COCO looks at the last).
- PQ = Σ IoU of matches / (TP + FP/2 + FN/2), SQ = Σ IoU / TP (0 where nothing matches), RQ = TP / (TP + FP/2
  + FN/2), each the mean over classes. Classes with neither annotation nor prediction (TP + FP + FN = 0) are
  left out of the means; a group with no class left has NaN.

Shapes: H×W the image, G annotated and P predicted segments, K classes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.data.id_maps import runs
from possam.evaluation.groups import mean_of

__all__ = ["PanopticCounts", "SegmentMatches", "count_segments", "match_segments"]

_MATCH = 0.5  # IoU above which a prediction is of an annotated segment


@dataclass(frozen=True)
class PanopticCounts:
    """Sums over images, by class.

    Args:
        iou: K float64, sum of the IoU of matches.
        tp, fp, fn: K int64, numbers of matches, of predictions without and of annotations without one.
    """

    iou: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]

    @classmethod
    def total(cls, images: Iterable[NDArray[np.float64]], num_classes: int) -> "PanopticCounts":
        """Add up what `count_segments` gave for each image."""
        table = np.concatenate([np.zeros((0, 5)), *images])
        classes = table[:, 0].astype(np.int64)
        sums = np.zeros((num_classes, 4))
        np.add.at(sums, classes, table[:, 1:])
        tp, fp, fn = sums[:, 1:].T.round().astype(np.int64)
        return cls(iou=sums[:, 0], tp=tp, fp=fp, fn=fn)

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        """ "PQ", "SQ" and "RQ" of each class in percent, K float64; NaN for a class that is left out."""
        matches = self.tp.astype(np.float64)
        weight = matches + 0.5 * self.fp + 0.5 * self.fn
        present = weight > 0
        nothing = np.full(len(matches), np.nan)
        rq = np.divide(matches, weight, out=nothing.copy(), where=present)
        pq = np.divide(self.iou, weight, out=nothing.copy(), where=present)
        sq = np.divide(self.iou, matches, out=np.where(present, 0.0, np.nan), where=matches > 0)
        return {"PQ": 100 * pq, "SQ": 100 * sq, "RQ": 100 * rq}

    def summary(self, groups: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
        """ "PQ", "SQ", "RQ" and the same with each group's suffix ("PQ_seen" …), in percent."""
        values = self.per_class()
        return {
            f"{metric}{suffix}": mean_of(values[metric], group)
            for suffix, group in groups.items()
            for metric in ("PQ", "SQ", "RQ")
        }

    def table(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """One dict a class: "name", "PQ", "SQ", "RQ" (percent or NaN), "TP", "FP", "FN"."""
        values = self.per_class()
        return [
            {
                "name": name,
                **{metric: float(values[metric][k]) for metric in ("PQ", "SQ", "RQ")},
                "TP": int(self.tp[k]),
                "FP": int(self.fp[k]),
                "FN": int(self.fn[k]),
            }
            for k, name in enumerate(names)
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentMatches:
    """How the segments of one image match.

    Args:
        truth_classes, prediction_classes: G and P contiguous classes.
        truth_crowd: G bool.
        iou: G×P float64, whatever the classes; 0 for crowds.
        ignored: P bool, predictions that are more than half void or crowd of their own class.
    """

    truth_classes: NDArray[np.int64]
    prediction_classes: NDArray[np.int64]
    truth_crowd: NDArray[np.bool_]
    iou: NDArray[np.float64]
    ignored: NDArray[np.bool_]

    @cached_property
    def same_segment(self) -> NDArray[np.bool_]:
        """Whether a prediction is of an annotated segment, whatever the classes: G×P bool, at most one per segment."""
        return self.iou > _MATCH

    @cached_property
    def matched(self) -> NDArray[np.bool_]:
        """Matches of the same class, which are the true positives: G×P bool."""
        return self.same_segment & (self.truth_classes[:, None] == self.prediction_classes[None])

    @property
    def false_positive(self) -> NDArray[np.bool_]:
        """P bool."""
        return ~self.matched.any(axis=0) & ~self.ignored

    @property
    def false_negative(self) -> NDArray[np.bool_]:
        """G bool."""
        return ~self.matched.any(axis=1) & ~self.truth_crowd

    def counts(self) -> NDArray[np.float64]:
        """n×5 float64, for n ≤ G + P: class, IoU, TP, FP, FN; to be added up by `PanopticCounts.total`."""
        rows, columns = np.nonzero(self.matched)
        return np.concatenate(
            [
                _rows(self.truth_classes[rows], iou=self.iou[rows, columns], column=2),
                _rows(self.prediction_classes[self.false_positive], column=3),
                _rows(self.truth_classes[self.false_negative], column=4),
            ]
        )


def count_segments(**arguments: Any) -> NDArray[np.float64]:
    """`SegmentMatches.counts` of one image; arguments as of `match_segments`."""
    return match_segments(**arguments).counts()


def match_segments(
    *,
    truth: NDArray[np.integer],
    truth_classes: NDArray[np.int64],
    truth_crowd: NDArray[np.bool_],
    truth_areas: NDArray[np.int64],
    prediction: NDArray[np.integer],
    prediction_classes: NDArray[np.int64],
    pixels: NDArray[np.int64] | None = None,
) -> SegmentMatches:
    """Match the segments of one image.

    Args:
        truth: H×W, 0 for void, ``i + 1`` for annotated segment i.
        truth_classes: G contiguous classes.
        truth_crowd: G bool.
        truth_areas: G int64, in pixels, as the annotation says; less than a segment's pixels, and where it does not
            say (−1), the pixels are counted.
        prediction: H×W, 0 for no segment, ``j + 1`` for predicted segment j, each of which has a pixel.
        prediction_classes: P contiguous classes.
        pixels: how many pixels each element of the maps stands for, such as a run's; None for one each.
    """
    if pixels is None:
        starts, pixels = runs(truth, prediction)
        truth, prediction = truth.take(starts), prediction.take(starts)
    shape = len(truth_classes) + 1, len(prediction_classes) + 1
    pair = truth.astype(np.int64) * shape[1] + prediction
    joint = np.bincount(pair, weights=pixels, minlength=shape[0] * shape[1]).reshape(shape).astype(np.int64)
    areas = joint.sum(axis=0)[1:]
    overlap, in_void = joint[1:, 1:], joint[0, 1:]
    truth_areas = np.maximum(truth_areas, joint.sum(axis=1)[1:])
    union = areas[None] + truth_areas[:, None] - overlap - in_void[None]
    iou = np.divide(overlap, union, out=np.zeros(overlap.shape), where=~truth_crowd[:, None] & (overlap > 0))

    last_crowd = {int(c): g for g, c in enumerate(truth_classes) if truth_crowd[g]}
    ignored = in_void.astype(np.float64)
    for j, category in enumerate(prediction_classes.tolist()):
        if category in last_crowd:
            ignored[j] += overlap[last_crowd[category], j]
    return SegmentMatches(
        truth_classes=truth_classes,
        prediction_classes=prediction_classes,
        truth_crowd=truth_crowd,
        iou=iou,
        ignored=ignored / areas > 0.5,
    )


def _rows(
    classes: NDArray[np.int64], *, column: int, iou: NDArray[np.float64] | float = 0.0
) -> NDArray[np.float64]:
    rows = np.zeros((len(classes), 5))
    rows[:, 0], rows[:, 1], rows[:, column] = classes, iou, 1
    return rows
