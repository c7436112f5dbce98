"""Prompts for evaluation: one for each annotated instance, or the boxes of a detector (METHOD.md 3.8).

Shapes: T instances, N prompts, H×W the image on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as mask_coder

from possam.data.annotations import read_instances
from possam.data.checks import image_size
from possam.data.detections import Detections
from possam.data.mapper import SegmentationMapper
from possam.layers.prompts import Prompts

__all__ = ["PROMPT_KINDS", "EvaluationPromptMapper", "center_point", "prompted_instances", "prompts_of_instances"]

PROMPT_KINDS = ("point", "box", "detector")
"""`TEST.PROMPTED.KIND`: a point or the box of every annotated instance, or the boxes of a detector."""


def prompted_instances(instances: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The annotated instances (`read_instances`) that are prompted for: no crowds, and none without a pixel."""
    return [one for one in instances if not one["iscrowd"] and mask_coder.area(one["segmentation"])]


def center_point(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """The pixel (x, y) of a mask that is farthest from all outside of it, where outside of the image is, too.

    The first such pixel, row by row, by exact Euclidean distances at the mask's own size **(ours; the published
    evaluation approximates them with a kernel of three pixels on the mask resized to the network's frame)**.

    Args:
        mask: H×W bool with at least one pixel.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    # Nothing outside of the box is nearer than the border around it.
    inside = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8), 1)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return left + int(x) - 1, top + int(y) - 1


def prompts_of_instances(instances: Sequence[Mapping[str, Any]], kind: str) -> Prompts:
    """One prompt for each of T instances, in pixels of the image on disk: its `center_point`, or its tightest box.

    Args:
        instances: of `prompted_instances`.
        kind: "point" or "box".
    """
    if kind == "box":
        return Prompts(boxes=instance_boxes(instances))
    points = [center_point(mask_coder.decode(one["segmentation"]) > 0) for one in instances]
    return Prompts(points=torch.tensor(points, dtype=torch.float32).view(-1, 1, 2))


def instance_boxes(instances: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """The tightest boxes of T instances: T×4 float32 XYXY in pixels of the image on disk."""
    boxes = np.array([mask_coder.toBbox(one["segmentation"]) for one in instances], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return torch.from_numpy(boxes)


class EvaluationPromptMapper(SegmentationMapper):
    """A `SegmentationMapper` of test time whose samples have ``prompts`` in pixels of ``image``.

    With a detector there are ``detections``, too: the `Detections` that the prompts come from. Nothing else of the
    annotation is in a sample, unless `region_boxes` asks for it.
    """

    def __init__(
        self,
        *,
        kind: str,
        detections: Mapping[Any, Detections] | None = None,
        detector_labels: bool = True,
        region_boxes: bool = False,
        **options: Any,
    ) -> None:
        """
        Args:
            kind: of `PROMPT_KINDS`.
            detections: of a detector, by image id; an image that is not in it has none.
            detector_labels: whether they keep their classes.
            region_boxes: whether a sample has the boxes of the annotated instances as ``region_boxes``, T×4 float32
                XYXY in pixels of ``image``, which reproduces the published evaluation (`PromptedSegmenter`).
            options: of `SegmentationMapper`, but `is_train`, which is False.
        """
        super().__init__(is_train=False, **options)
        assert kind in PROMPT_KINDS and (kind == "detector") == (detections is not None)
        assert not (region_boxes and kind == "detector"), "detections are no annotated instances"
        self.kind, self.region_boxes = kind, region_boxes
        self.detections, self.detector_labels = detections, detector_labels

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """As the base's."""
        sample = super().__call__(record)
        height, width = image_size(record)
        new_height, new_width = sample["image"].shape[-2:]
        scale = new_width / width, new_height / height
        if self.detections is not None:
            found = self.detections.get(record["image_id"], Detections.none())
            sample["detections"] = found if self.detector_labels else replace(found, classes=None)
            prompts = Prompts(boxes=found.boxes)
        else:
            instances = prompted_instances(read_instances(record, isthing=self.vocabulary.isthing))
            prompts = prompts_of_instances(instances, self.kind)
            if self.region_boxes:
                boxes = Prompts(boxes=instance_boxes(instances)).resize(*scale)
                sample["region_boxes"] = boxes.boxes
        sample["prompts"] = prompts.resize(*scale)
        return sample
