"""Prompts for training: points and boxes of an image's own instances (METHOD.md 3.7).

Shapes: T instances, N prompts, H×W the transformed image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from possam.d2.structures import Instances
from possam.data.mapper import SegmentationMapper
from possam.inference import boxes_of_masks
from possam.layers.prompts import PADDING, POSITIVE, Prompts
from possam.layers.segment_masks import RepeatedMasks

__all__ = ["PromptMapper", "PromptSampler", "Prompts", "has_instances"]

_DRAWS = 10


def has_instances(record: Mapping[str, Any]) -> bool:
    """Whether a record lists an instance that is no crowd; True where its annotation is read with the image."""
    if "annotations" in record:
        return any(not annotation["iscrowd"] for annotation in record["annotations"])
    return True


class PromptSampler:
    """Draws prompts of instances, with NumPy's global generator, which training seeds for every sample."""

    def __init__(self, *, prompts: int = 40, boxes: int = 21, min_area: int = 32) -> None:
        """
        Args:
            prompts: how many to draw of an image; boxes: how many of them are boxes, the others being single points.
            min_area: least number of pixels of an instance that is prompted for.

        Raises:
            ValueError: no prompt, more boxes than prompts, or an area below 1.
        """
        if prompts < 1 or not 0 <= boxes <= prompts or min_area < 1:
            raise ValueError(
                f"expected at least 1 prompt, 0 to that many boxes and an area of at least 1 pixel, but got "
                f"prompts={prompts}, boxes={boxes}, min_area={min_area}."
            )
        self.prompts, self.boxes, self.min_area = prompts, boxes, min_area

    def __call__(self, masks: Tensor) -> tuple[Prompts, Tensor]:
        """Draw prompts of the instances of one image.

        Args:
            masks: T×H×W bool.

        Returns:
            N prompts, and the instance of each, N int64 in [0, T). Instances are chosen at random, and all of them
            equally often (give or take one) where they are fewer than N **(ours; the published code takes the first of
            the file)**. A point is uniform over the pixels of its mask, a box is the tightest. N is 0 where no
            instance has `min_area` pixels.
        """
        large = (masks.flatten(1).sum(1) >= self.min_area).nonzero().flatten().numpy()
        count = self.prompts if len(large) else 0
        repeated = np.tile(np.random.permutation(large), -(-count // max(1, len(large))))[:count]
        index = torch.from_numpy(np.random.permutation(repeated))
        has_box = torch.arange(count) < self.boxes
        labels = torch.where(has_box, PADDING, POSITIVE)[:, None]
        points = torch.zeros(count, 1, 2)
        for place in (~has_box).nonzero().flatten().tolist():
            pixels = masks[index[place]].nonzero()
            points[place, 0] = pixels[np.random.randint(len(pixels))].flip(0).float()  # (row, column) to (x, y)
        boxes = boxes_of_masks(masks)[index] * has_box[:, None]
        return Prompts(points=points, labels=labels, boxes=boxes, has_box=has_box), index


class PromptMapper(SegmentationMapper):
    """A `SegmentationMapper` for the training of systems that take prompts.

    The result has ``prompts``, the N of the sampler in pixels of ``image``, and ``instances`` of as many rows, the
    target of each prompt: ``gt_classes`` (N int64, contiguous, or -1 for an instance without a name) and ``gt_masks``
    (`RepeatedMasks`). A crop without any instance is drawn anew, a few times; N is 0 where that does not help.
    """

    def __init__(self, *, sampler: PromptSampler, **options: Any) -> None:
        """
        Args:
            sampler: draws the prompts.
            options: of `SegmentationMapper`, but `is_train`, which is True.
        """
        super().__init__(is_train=True, **options)
        self.sampler = sampler

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """As the base's."""
        for _ in range(_DRAWS):
            sample = super().__call__(record)
            found = sample["instances"]
            masks = getattr(found.gt_masks, "tensor", found.gt_masks)
            prompts, index = self.sampler(masks)
            if len(prompts):
                break
        kept, places = index.unique(return_inverse=True)
        targets = Instances(found.image_size)
        targets.gt_classes = found.gt_classes[index]
        targets.gt_masks = RepeatedMasks(masks[kept], places)
        return sample | {"prompts": prompts, "instances": targets}
