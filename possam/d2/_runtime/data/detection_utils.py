"""Reading images."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..utils.file_io import PathManager

# ITU-R BT.601 with U and V in their analogue ranges.
_RGB_TO_YUV = np.array([[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]])


class SizeMismatchError(ValueError):
    """An image file is not of the size that its annotation claims."""


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """A PIL image as an array in ``format`` (see `read_image`); None keeps the image's own mode."""
    if format is None:
        return np.asarray(image)
    pixels = np.asarray(image.convert("RGB" if format in ("BGR", "YUV-BT.601") else format))
    if format == "BGR":
        return pixels[:, :, ::-1]
    if format == "YUV-BT.601":
        return pixels / 255.0 @ _RGB_TO_YUV.T
    return pixels[:, :, None] if format == "L" else pixels


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image file, turned upright by its EXIF orientation.

    Args:
        file_name: path or URL.
        format: a PIL mode, "BGR", or "YUV-BT.601"; None keeps the file's mode.

    Returns:
        H×W×C uint8 0..255, or float with Y in 0..1 for YUV. "L" has one channel.
    """
    with PathManager.open(file_name, "rb") as file:
        return convert_PIL_to_numpy(ImageOps.exif_transpose(Image.open(file)), format)


def check_image_size(dataset_dict: dict[str, Any], image: np.ndarray) -> None:
    """Compare an image with the "width" and "height" of its dict, or fill them in where they are missing.

    Raises:
        SizeMismatchError: they disagree.
    """
    height, width = image.shape[:2]
    claimed = (dataset_dict.setdefault("height", height), dataset_dict.setdefault("width", width))
    if claimed != (height, width):
        raise SizeMismatchError(
            f"the image {dataset_dict.get('file_name', '')} is {height}×{width} (height × width), "
            f"but its annotation says {claimed[0]}×{claimed[1]}: correct the annotation"
        )
