"""Mask logits from the decoder's size back to the size a person asked for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# Masks resized at a time: the padded copies of 250 masks at 1024×1024 would take a gigabyte for nothing.
_MASKS_AT_ONCE = 32


def restore_masks(
    mask_logits: Tensor,
    *,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> Tensor:
    """Bilinear to the padded input, crop the padding away, bilinear to the output (corners not aligned).

    Args:
        mask_logits: Q×h×w float, covering the padded input.
        padded_size: (height, width) in pixels of the padded input.
        image_size: (height, width) of the image inside it, at its upper left.
        output_size: (height, width) wanted.

    Returns:
        Q×H×W float32 logits.

    Raises:
        ValueError: ``mask_logits`` is not Q×h×w, or the image is empty or larger than its padded input.
    """
    if mask_logits.dim() != 3:
        raise ValueError(f"expected mask logits of shape Q×h×w, got {tuple(mask_logits.shape)}")
    if min(*image_size, *output_size) < 1:
        raise ValueError(f"sizes must be at least 1×1, got image {image_size} and output {output_size}")
    if image_size[0] > padded_size[0] or image_size[1] > padded_size[1]:
        raise ValueError(
            f"an image of {image_size} pixels (height, width) cannot lie in an input of {padded_size}"
        )
    restored = mask_logits.new_empty((len(mask_logits), *output_size)).float()
    for start in range(0, len(mask_logits), _MASKS_AT_ONCE):
        part = slice(start, start + _MASKS_AT_ONCE)
        padded = _resize(mask_logits[part].float(), padded_size)
        restored[part] = _resize(padded[:, : image_size[0], : image_size[1]], output_size)
    return restored


def _resize(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    return F.interpolate(masks.unsqueeze(0), size=size, mode="bilinear", align_corners=False).squeeze(0)
