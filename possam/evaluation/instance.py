"""Instance segmentation: average precision of the masks of things.

Shapes: N predicted instances, H×W the image, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as mask_coder

from possam.evaluation.average_precision import LVIS_DETECTIONS, ImageInstances, precision_table
from possam.evaluation.groups import mean_of
from possam.evaluation.per_image import PerImageEvaluator

__all__ = ["InstanceEvaluator"]

# Places among the ranges of area and the IoU thresholds of a `precision_table`.
_AREAS = {"AP": 0, "APs": 1, "APm": 2, "APl": 3}
_THRESHOLDS = {"AP50": 0, "AP75": 5}
_GROUPS = ("_seen", "_unseen", "_base", "_novel")
_FREQUENCIES = {"APr": "r", "APc": "c", "APf": "f"}


class InstanceEvaluator(PerImageEvaluator):
    """AP, AP50, AP75, APs, APm, APl, AP_seen and AP_unseen, in percent (`possam.evaluation.average_precision`); for a
    dataset with base and novel classes AP_base and AP_novel too, and for one that says how frequent its classes are in
    training APr, APc and APf (rare, common, frequent).

    Scores ``output["instances"]``: Instances with ``pred_masks`` (N×H×W bool, at the size of the image on disk),
    ``scores`` and ``pred_classes`` (contiguous); predictions of stuff classes are left out. The annotation is
    `GroundTruth.instances`. Classes without an annotated instance are left out of the means; a group with no class left
    has NaN. Of an image only run-length masks are kept.
    """

    def score_image(self, image_id: Any, output: Mapping[str, Any]) -> ImageInstances:
        """Annotated and predicted instances with run-length masks."""
        instances = self.output_of(image_id, output, "instances")
        size = tuple(instances.pred_masks.shape[1:])
        self.check_size(image_id, "instances.pred_masks", size)
        classes = instances.pred_classes.cpu().numpy()
        if len(classes) and not 0 <= classes.min() <= classes.max() < len(self.vocabulary):
            raise ValueError(
                f"instances of image {image_id!r} have classes from {classes.min()} to {classes.max()}, "
                f"but dataset {self.ground_truth.name!r} has {len(self.vocabulary)}; "
                "predict with the dataset's vocabulary."
            )
        truth = self.ground_truth.instances(image_id)
        scores = instances.scores.float().cpu().numpy()
        kept = np.flatnonzero(np.array(self.vocabulary.isthing, dtype=bool)[classes])
        unjudged: frozenset[int] = frozenset()
        if self.ground_truth.federated:
            kept = kept[np.argsort(-scores[kept], kind="stable")[:LVIS_DETECTIONS]]
            absent, unjudged = self._federation(image_id)
            judged = absent | {annotation["category_id"] for annotation in truth}
            kept = kept[np.isin(classes[kept], list(judged))]
        predictions = [
            {"category_id": int(classes[i]), "score": float(scores[i]), **encoded}
            for i, encoded in zip(kept, _encode(instances.pred_masks, kept), strict=True)
        ]
        return ImageInstances(size=size, truth=truth, predictions=predictions, unjudged=unjudged)

    def summarize(self, results: Sequence[Any]) -> dict[str, dict[str, float]]:
        groups = {f"AP{suffix}": group for suffix, group in self.groups.items() if suffix in _GROUPS}
        frequencies = self.ground_truth.frequencies
        if frequencies is not None:
            groups |= {name: np.array(frequencies) == letter for name, letter in _FREQUENCIES.items()}
        names = [*_AREAS, *_THRESHOLDS, *groups]
        if not results:
            return {"segm": {name: float("nan") for name in names}}
        things = np.flatnonzero(self.vocabulary.isthing).tolist()
        table = precision_table(results, things, federated=self.ground_truth.federated)

        def per_class(area: int, threshold: slice = slice(None)) -> NDArray[np.float64]:
            values = np.full(len(self.vocabulary), np.nan)
            chosen = table[threshold, :, :, area]
            values[things] = np.where(chosen.min(axis=(0, 1)) > -1, chosen.mean(axis=(0, 1)), np.nan)
            return 100 * values

        everything = self.groups[""]
        metrics = {name: mean_of(per_class(area), everything) for name, area in _AREAS.items()}
        for name, t in _THRESHOLDS.items():
            metrics[name] = mean_of(per_class(0, slice(t, t + 1)), everything)
        metrics |= {name: mean_of(per_class(0), group) for name, group in groups.items()}
        return {"segm": {name: metrics[name] for name in names}}

    def _federation(self, image_id: Any) -> tuple[set[int], frozenset[int]]:
        """The classes known to be absent, and those of which not all instances are annotated."""
        record = self.ground_truth.record(image_id)
        keys = ("neg_category_ids", "not_exhaustive_category_ids")
        missing = [key for key in keys if key not in record]
        if missing:
            raise ValueError(
                f"image {image_id!r} of the federated dataset {self.ground_truth.name!r} lacks {missing}; "
                "take the annotation file from LVIS itself."
            )
        absent, unjudged = (record[key] for key in keys)
        return set(absent), frozenset(unjudged)


def _encode(masks: torch.Tensor, kept: NDArray[np.integer]) -> list[dict[str, Any]]:
    """``segmentation`` (runs) and ``area`` in pixels of each mask that is kept."""
    # The coder wants columns first.
    columns = masks[torch.from_numpy(kept).to(masks.device)].transpose(1, 2).to(torch.uint8).contiguous().cpu().numpy()
    runs = [mask_coder.encode(mask.T) for mask in columns]
    return [{"segmentation": run, "area": float(mask_coder.area(run))} for run in runs]
