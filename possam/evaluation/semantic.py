"""Semantic segmentation: every pixel's class against its annotated class.

Shapes: H×W the image, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.data.id_maps import runs
from possam.evaluation.groups import mean_of
from possam.evaluation.per_image import PerImageEvaluator

__all__ = ["SemanticEvaluator", "semantic_metrics"]


class SemanticEvaluator(PerImageEvaluator):
    """mIoU, frequency-weighted IoU, mean and overall pixel accuracy (`semantic_metrics`).

    Scores ``output["semantic_seg"]``: an H×W integer tensor of contiguous classes at the size of the image on
    disk; negative numbers say "no class". The annotation is `GroundTruth.labels`; pixels without a class there are left
    out, whatever is predicted of them. Memory does not grow with images × K²: an image leaves the pairs that occur.
    """

    def score_image(self, image_id: Any, output: Mapping[str, Any]) -> NDArray[np.int64]:
        """n×3 int64: annotated class, predicted class (K: none), number of pixels."""
        predicted = self.predicted_labels(image_id, output)
        num_classes = len(self.vocabulary)
        if np.issubdtype(predicted.dtype, np.floating) or int(predicted.max(initial=0)) >= num_classes:
            raise ValueError(
                f"semantic_seg of image {image_id!r} must hold integer classes below {num_classes} "
                f"(negative: none), but is {predicted.dtype} up to {predicted.max()}; "
                "predict with the dataset's vocabulary."
            )
        truth = self.ground_truth.labels(image_id)
        starts, pixels = runs(truth, predicted)
        truth, predicted = truth.ravel()[starts], predicted.ravel()[starts]
        pairs = truth * (num_classes + 1) + np.where(predicted < 0, num_classes, predicted)
        annotated = truth >= 0
        found, places = np.unique(pairs[annotated], return_inverse=True)
        counts = np.bincount(places, weights=pixels[annotated], minlength=len(found))
        return np.stack([*np.divmod(found, num_classes + 1), counts], axis=1).astype(np.int64)

    def predicted_labels(self, image_id: Any, output: Mapping[str, Any]) -> NDArray[Any]:
        """H×W at the size of the image on disk: the predicted class of every pixel, negative for none."""
        labels: NDArray[Any] = self.output_of(image_id, output, "semantic_seg").cpu().numpy()
        self.check_size(image_id, "semantic_seg", labels.shape)
        return labels

    def summarize(self, results: Sequence[Any]) -> dict[str, dict[str, float]]:
        num_classes = len(self.vocabulary)
        confusion = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
        for rows in results:
            confusion[rows[:, 0], rows[:, 1]] += rows[:, 2]
        return {"sem_seg": semantic_metrics(confusion, self.groups)}


def semantic_metrics(
    confusion: NDArray[np.int64], groups: Mapping[str, NDArray[np.bool_]]
) -> dict[str, float]:
    """Metrics of a table of pixels, in percent; those of Detectron2's SemSegEvaluator.

    Classes without an annotated pixel are left out of the means, predicted or not; a group with no class
    left, and everything where there is no annotated pixel, has NaN. A pixel predicted as "no class" is a miss of its
    annotated class and nobody's false positive (Detectron2 knows no such prediction).

    Args:
        confusion: K×(K+1) int64, annotated by predicted class; the last column is "no class".
        groups: K bool by suffix (`possam.evaluation.groups.class_groups`).
    Returns:
        "mIoU", "fwIoU", "mACC", "pACC", and "mIoU" with "_seen" and "_unseen" where there are these groups.
    """
    correct = np.diagonal(confusion).astype(np.float64)
    annotated = confusion.sum(axis=1).astype(np.float64)
    union = annotated + confusion[:, :-1].sum(axis=0) - correct
    nothing = np.full(len(correct), np.nan)
    iou = np.divide(correct, union, out=nothing.copy(), where=annotated > 0)
    accuracy = np.divide(correct, annotated, out=nothing, where=annotated > 0)
    pixels = annotated.sum()
    result = {
        "mIoU": mean_of(iou, groups[""]),
        "fwIoU": float(np.nansum(iou * annotated) / pixels) if pixels else float("nan"),
        "mACC": mean_of(accuracy, groups[""]),
        "pACC": float(correct.sum() / pixels) if pixels else float("nan"),
    }
    result |= {
        f"mIoU{suffix}": mean_of(iou, groups[suffix]) for suffix in ("_seen", "_unseen") if suffix in groups
    }
    return {name: 100 * value for name, value in result.items()}
