"""Images and ground truth of a batch at one size, that of the padded network input H×W."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from possam.encoders import FeatureMaps
from possam.losses import Target

__all__ = ["image_size", "output_size", "pad_images", "padded_size", "padded_target", "stack_features"]

PADDING = 32
"""Images are padded to multiples of this many pixels, the largest stride."""


def padded_size(images: Sequence[Tensor], pad_to: int, least: tuple[int, int]) -> tuple[int, int]:
    """(H, W) in pixels of images (3×H'×W') once padded.

    Args:
        pad_to: side of the square that they are padded to; 0 pads to multiples of 32.
        least: (height, width) that H and W are no less than.

    Raises:
        ValueError: an image does not fit in the square.
    """
    height = max(least[0], *(image.shape[-2] for image in images))
    width = max(least[1], *(image.shape[-1] for image in images))
    if not pad_to:
        return -(-height // PADDING) * PADDING, -(-width // PADDING) * PADDING
    if max(height, width) > pad_to:
        raise ValueError(
            f"An image of {height}x{width} pixels does not fit in the {pad_to}x{pad_to} input; "
            f"resize its longest side to {pad_to}."
        )
    return pad_to, pad_to


def pad_images(images: Sequence[Tensor], size: tuple[int, int], color: Tensor) -> Tensor:
    """B×3×H×W float32 RGB of images (3×H'×W'), on the right and below of this color, 1×3×1×1."""
    batch = color.repeat(len(images), 1, *size)
    for padded, image in zip(batch, images, strict=True):
        padded[:, : image.shape[-2], : image.shape[-1]] = image
    return batch


def stack_features(
    samples: Sequence[Mapping[str, Mapping[int, Tensor]]], reads: Mapping[str, Sequence[int]], device: torch.device
) -> dict[str, FeatureMaps]:
    """{role: {stride: B×C_s×H/s×W/s float32}} on a device, of these strides, of the maps of B images; roles that these
    do not have are left out."""
    return {
        role: {
            stride: torch.stack([sample[role][stride] for sample in samples]).to(device).float() for stride in strides
        }
        for role, strides in reads.items()
        if role in samples[0]
    }


def padded_target(inputs: dict[str, Any], size: tuple[int, int], device: torch.device) -> Target:
    """The "instances" of an input on a device, their masks padded to (H, W)."""
    instances = inputs["instances"].to(device)
    masks = getattr(instances.gt_masks, "tensor", instances.gt_masks)
    height, width = masks.shape[-2:]
    border = (0, size[1] - width, 0, size[0] - height)
    return Target(labels=instances.gt_classes, masks=nn.functional.pad(masks, border))


def image_size(inputs: dict[str, Any]) -> tuple[int, int]:
    """(height, width) in pixels of an input's "image"."""
    height, width = inputs["image"].shape[-2:]
    return height, width


def output_size(inputs: dict[str, Any]) -> tuple[int, int]:
    """(height, width) in pixels of the segmentation of an input: its "height" and "width", or else its image's."""
    height, width = image_size(inputs)
    return inputs.get("height", height), inputs.get("width", width)
