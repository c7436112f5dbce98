"""Masks and names of prompts: mean IoU and accuracy over instances, or AP over a detector's boxes (METHOD.md 3.8).

Shapes: N prompts of an image, H×W the image on disk.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as mask_coder

from possam.d2.structures import Instances
from possam.data.detections import Detections
from possam.data.instance_prompts import prompted_instances
from possam.evaluation.average_precision import ImageInstances
from possam.evaluation.instance import InstanceEvaluator
from possam.evaluation.per_image import PerImageEvaluator

__all__ = ["PromptedEvaluator"]

_AREAS = {"_small": (0, 32**2), "_medium": (32**2, 96**2), "_large": (96**2, np.inf)}
"""COCO's ranges of an instance's area in pixels, as its annotation states it; the upper end is outside."""


class PromptedEvaluator(PerImageEvaluator):
    """Scores ``output["prompted"]`` (`possam.inference.prompted.collect_prompted`), mask i that of prompt i.

    Where prompts are those of the annotated instances (`possam.data.instance_prompts`): "mIoU", the mean over
    instances, not over classes or images, of the IoU of their masks at the size of the image on disk, and "accuracy",
    the share of instances whose best class is theirs. Both are in percent, over all instances, over those of base and
    novel classes where a split says which these are, else of seen and unseen ones, and over small, medium and large
    ones. NaN where there is no instance.

    Where inputs have ``detections``: what `InstanceEvaluator` gives for their masks, with the detector's scores, and
    its classes or, where it gives none, the model's best ones.
    """

    def __init__(self, dataset_name: str, **shared: Any) -> None:
        """Take the arguments of `PerImageEvaluator`."""
        super().__init__(dataset_name, **shared)
        self._precision = InstanceEvaluator(dataset_name, **{**shared, "ground_truth": self.ground_truth})

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        # What is scored with an image travels with its output.
        super().process(
            inputs,
            [
                {**output, "detections": sample.get("detections")}
                for sample, output in zip(inputs, outputs, strict=True)
            ],
        )

    def score_image(self, image_id: Any, output: Mapping[str, Any]) -> NDArray[np.float64] | ImageInstances:
        """T×4 float64 of T instances: IoU, 1 where the class is right, class, area in pixels. Or masks for AP."""
        if output["detections"] is not None:
            return self._score_detections(image_id, output["detections"], output)
        instances = prompted_instances(self.ground_truth.instances(image_id))
        if not instances:
            return np.zeros((0, 4))
        masks, classes = self._prompted(image_id, output, len(instances))
        truth = np.array([one["category_id"] for one in instances])
        ious = [
            _iou(mask, mask_coder.decode(one["segmentation"]) > 0) for mask, one in zip(masks, instances, strict=True)
        ]
        return np.stack([ious, classes == truth, truth, [one["area"] for one in instances]], axis=1)

    def _score_detections(self, image_id: Any, detections: Detections, output: Mapping[str, Any]) -> ImageInstances:
        found = Instances(self.ground_truth.size(image_id))
        masks, classes = np.zeros((0, *found.image_size), dtype=bool), np.zeros(0, dtype=np.int64)
        if len(detections.scores):
            masks, classes = self._prompted(image_id, output, len(detections.scores))
        found.scores, found.pred_masks = detections.scores, torch.from_numpy(masks)
        found.pred_classes = torch.from_numpy(classes) if detections.classes is None else detections.classes
        return self._precision.score_image(image_id, {"instances": found})

    def _prompted(
        self, image_id: Any, output: Mapping[str, Any], count: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Masks N×H×W and best classes N of an output, which must be `count`."""
        prompted = self.output_of(image_id, output, "prompted")
        masks, classes = prompted["masks"].cpu().numpy(), prompted["classes"][:, 0].cpu().numpy()
        if len(masks) != count:
            raise ValueError(
                f"image {image_id!r} has {count} prompts, but the model's output {len(masks)} masks; evaluate with the "
                "loader of this task."
            )
        self.check_size(image_id, "prompted['masks']", masks.shape[1:])
        return masks, classes

    def summarize(self, results: Sequence[Any]) -> dict[str, dict[str, float]]:
        if any(isinstance(result, ImageInstances) for result in results):
            return {"prompted": self._precision.summarize(results)["segm"]}
        ious, right, classes, areas = np.concatenate([np.zeros((0, 4)), *results]).T
        wanted = ("_base", "_novel") if self.ground_truth.class_split else ("_seen", "_unseen")
        groups = {"": np.ones(len(ious), dtype=bool)}
        groups |= {suffix: self.groups[suffix][classes.astype(int)] for suffix in wanted if suffix in self.groups}
        groups |= {suffix: (least <= areas) & (areas < most) for suffix, (least, most) in _AREAS.items()}
        return {
            "prompted": {
                name + suffix: 100 * float(values[group].mean()) if group.any() else float("nan")
                for name, values in (("mIoU", ious), ("accuracy", right))
                for suffix, group in groups.items()
            }
        }


def _iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """IoU of two masks, the second of which has a pixel."""
    return float((mask & truth).sum() / (mask | truth).sum())
