"""Pictures that people bring, as the models want them: H×W×3 uint8 RGB, upright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["Picture", "UnreadableFile", "decoding", "read_picture", "to_rgb"]

Picture = str | Path | Image.Image | NDArray[np.uint8]


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """Read a file as `to_rgb` gives it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, is cut off, or is too large to be one; the message names it.
    """
    try:
        with Image.open(path) as image:
            return _from_pil(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image at {path}; check the path.") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; give the images in it.") from None
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise ValueError(f"{path} cannot be read as an image ({error}); give a whole JPEG, PNG, TIFF ...") from error


class UnreadableFile(ValueError):
    """A file that should be a picture does not decode; the message names it."""


@contextmanager
def decoding(what: str, *, missing: str, mend: str) -> Iterator[None]:
    """What Pillow raises for a file that is absent or damaged, as FileNotFoundError and `UnreadableFile`.

    Args:
        what: the file, such as "label map a.png".
        missing, mend: what to do where it does not exist, and where it does not decode.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{what} does not exist; {missing}.") from None
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise UnreadableFile(f"{what} does not decode ({error}); {mend}.") from error


def to_rgb(image: Picture) -> NDArray[np.uint8]:
    """Turn any picture into H×W×3 uint8 RGB in [0, 255].

    Args:
        image: a path; a PIL image of any mode (turned as its EXIF orientation says, 16-bit greys scaled to 8 bits,
            transparency laid on white); or an array, H×W×3 uint8 RGB or H×W uint8 grey, which is taken as upright.

    Raises:
        FileNotFoundError, ValueError: as `read_picture`; an array of another shape or type, or of no pixel.
    """
    if isinstance(image, str | Path):
        return read_picture(image)
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image must be a path, a PIL image or an array, but got {type(image).__name__}.")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(
            f"an image array must be H×W×3 uint8 RGB or H×W uint8 grey, but got shape {image.shape} and {image.dtype}."
        )
    if image.size == 0:
        raise ValueError(f"an image must have at least one pixel, but got an array of shape {image.shape}.")
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2))


def _from_pil(image: Image.Image) -> NDArray[np.uint8]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        return to_rgb(_eight_bits(np.asarray(upright)))
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(upright.convert("RGB"))


def _eight_bits(grey: NDArray[np.number]) -> NDArray[np.uint8]:
    """16-bit greys by their range; wider integers and floats, whose range nothing tells, by what they hold."""
    values = grey.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("an image has pixels that are not finite numbers; repair it.")
    low, high = float(values.min()), float(values.max())
    if 0 <= low and high <= 65535 and np.issubdtype(grey.dtype, np.integer):
        low, high = 0.0, 65535.0
    return np.round((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
