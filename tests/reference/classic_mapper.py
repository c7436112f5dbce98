"""The field's way from a panoptic record to a training sample (as Mask2Former's and FC-CLIP's mappers do it), plainly:
everything is resized whole, then cropped and padded, and every segment's mask is made by a comparison of its own.

Shapes: H×W the image on disk, S the side of the crop, T targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["classic_sample"]


def classic_sample(
    record: Mapping[str, Any], *, size: int, min_scale: float = 0.1, max_scale: float = 2.0, pad: bool = True
) -> dict[str, Any]:
    """Large-scale jitter, a crop of `size`×`size` and a flip, drawn from NumPy's global generator in this order.

    Args:
        record: "file_name", "pan_seg_file_name", and "segments_info" with "id", "category_id" and "iscrowd".
        size: side of the crop, in pixels.
        min_scale, max_scale: range of the jitter.
        pad: fill up to `size`×`size`, with gray and with an id that no segment has; else a small image stays small.
    Returns:
        "image" (3×S×S uint8 RGB), "gt_masks" (T×S×S bool) and "gt_classes" (T int64), also of segments that the crop
        leaves nothing of.
    """
    image = np.asarray(ImageOps.exif_transpose(Image.open(record["file_name"])).convert("RGB"))
    colors = np.asarray(Image.open(record["pan_seg_file_name"]).convert("RGB"))
    height, width = image.shape[:2]
    ratio = size * np.random.uniform(min_scale, max_scale) / max(height, width)
    new_height, new_width = int(np.round(height * ratio)), int(np.round(width * ratio))
    offset = np.random.uniform(0.0, 1.0)
    top, left = (int(np.round(max(side - size, 0) * offset)) for side in (new_height, new_width))
    flipped = np.random.uniform() < 0.5

    def transform(pixels: NDArray[np.uint8], method: Image.Resampling, fill: int) -> NDArray[np.uint8]:
        resized = np.asarray(Image.fromarray(pixels).resize((new_width, new_height), method))
        cropped = resized[top : top + size, left : left + size]
        if flipped:
            cropped = cropped[:, ::-1]
        if not pad:
            return cropped
        below, right = size - cropped.shape[0], size - cropped.shape[1]
        return np.pad(cropped, ((0, below), (0, right), (0, 0)), constant_values=fill)

    image = transform(image, Image.Resampling.BILINEAR, 128)
    colors = transform(colors, Image.Resampling.NEAREST, 255).astype(np.uint32)
    ids = colors[..., 0] + 256 * colors[..., 1] + 256**2 * colors[..., 2]
    kept = [segment for segment in record["segments_info"] if not segment["iscrowd"]]
    masks = [torch.from_numpy(np.ascontiguousarray(ids == segment["id"])) for segment in kept]
    return {
        "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        "gt_masks": torch.stack(masks) if masks else torch.zeros((0, *ids.shape), dtype=torch.bool),
        "gt_classes": torch.tensor([segment["category_id"] for segment in kept], dtype=torch.int64),
    }
