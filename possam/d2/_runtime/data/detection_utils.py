"""Reading images."""

import numpy as np
from PIL import Image, ImageOps

from ..utils.file_io import PathManager


def read_image(file_name: str, format: str) -> np.ndarray:
    """Read an image file, turned upright by its EXIF orientation.

    Args:
        file_name: path or URL.
        format: a PIL mode, such as "RGB".

    Returns:
        H×W×C uint8 0..255, of "RGB" with C = 3.
    """
    with PathManager.open(file_name, "rb") as file:
        return np.asarray(ImageOps.exif_transpose(Image.open(file)).convert(format))
