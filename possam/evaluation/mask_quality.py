"""How well the IoU head ranks masks: predicted IoU against true IoU.

Shapes: Q queries of an image, G annotated segments, H×W the image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from possam.evaluation.per_image import PerImageEvaluator

__all__ = ["MaskQualityEvaluator", "spearman", "true_ious"]


class MaskQualityEvaluator(PerImageEvaluator):
    """Spearman rank correlation of predicted and true IoU, over all queries of all images.

    Scores ``output["mask_quality"]``: "masks" (Q×H×W bool, at the size of the image on disk) and "iou" (Q
    floats). Pixels of the annotation that are void or crowd are removed first; a query that had pixels and
    has none left is left out, since nothing is known of it.

    "spearman_matched" takes as truth what training does (METHOD.md 1.4): the IoU with the segment that an
    optimal one-to-one assignment gives the query, 0 for the rest. "spearman_best" takes the best IoU with any
    segment, so that a duplicate of a good mask counts as good. "spearman_segments" is the latter over the queries
    that became segments of ``output["panoptic_seg"]``, where there is one: the masks that anyone sees.
    "mae_matched" is the mean absolute error against the first. NaN where there are fewer than two queries, or all
    have the same value.

    Most queries match nothing and tie at a truth of 0, so that "spearman_matched" cannot come near 1.
    """

    def score_image(self, image_id: Any, output: Mapping[str, Any]) -> NDArray[np.float64]:
        """n×4 float64: predicted IoU, matched and best true IoU, 1 where the query became a segment."""
        quality = self.output_of(image_id, output, "mask_quality")
        masks = quality["masks"].cpu().numpy()
        self.check_size(image_id, "mask_quality['masks']", masks.shape[1:])
        predicted = quality["iou"].detach().cpu().to(torch.float64).numpy()
        if len(predicted) != len(masks):
            raise ValueError(
                f"mask_quality of image {image_id!r}: {len(masks)} masks but {len(predicted)} IoUs."
            )
        matched, best, known = true_ious(
            masks, self.ground_truth.index(image_id), self.ground_truth.crowds(image_id)
        )
        segment = np.zeros(len(masks))
        _, segments_info = output.get("panoptic_seg", (None, []))
        segment[[info["query"] for info in segments_info if "query" in info]] = 1
        return np.stack([predicted, matched, best, segment], axis=1)[known]

    def summarize(self, results: Sequence[Any]) -> dict[str, dict[str, float]]:
        predicted, matched, best, segment = np.concatenate([np.zeros((0, 4)), *results]).T
        seen = segment > 0
        error = float(np.abs(predicted - matched).mean()) if len(predicted) else float("nan")
        metrics = {
            "spearman_matched": spearman(predicted, matched),
            "spearman_best": spearman(predicted, best),
            "spearman_segments": spearman(predicted[seen], best[seen]),
            "mae_matched": error,
        }
        return {"iou_head": metrics}


def true_ious(
    masks: NDArray[np.bool_], index: NDArray[np.int64], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """IoU of masks with annotated segments.

    Args:
        masks: Q×H×W bool.
        index: H×W, 0 for void, ``i + 1`` for segment i.
        crowd: G bool; crowd segments are removed like void.
    Returns:
        matched: Q float64, IoU under the one-to-one assignment with the largest sum; 0 for the unassigned.
        best: Q float64, largest IoU with any segment.
        known: Q bool, False where a mask has pixels and all of them are void or crowd.
    """
    lookup = np.zeros(len(crowd) + 1, dtype=np.int64)
    lookup[1:][~crowd] = np.arange(1, int((~crowd).sum()) + 1)
    segment = lookup[index].ravel()
    num_segments = int((~crowd).sum())
    overlap = np.zeros((len(masks), num_segments + 1), dtype=np.int64)
    for row, mask in zip(overlap, masks.reshape(len(masks), index.size), strict=True):
        row[:] = np.bincount(segment[mask], minlength=num_segments + 1)
    inside = overlap[:, 1:]
    area = inside.sum(axis=1)
    union = area[:, None] + np.bincount(segment, minlength=num_segments + 1)[None, 1:] - inside
    iou = inside / np.maximum(union, 1)
    matched = np.zeros(len(masks))
    rows, columns = linear_sum_assignment(iou, maximize=True)
    matched[rows] = iou[rows, columns]
    return matched, iou.max(axis=1, initial=0.0), (area > 0) | (overlap[:, 0] == 0)


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation in [−1, 1], ties having their mean rank; NaN where it is not defined."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
