"""Pictures that people bring, as the models want them: H×W×3 uint8 RGB, upright."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from possam.utils.files import expand_home

__all__ = ["Picture", "UnreadableFile", "decode_rgb", "decoding", "is_turned", "read_picture", "to_rgb"]

Picture = str | Path | Image.Image | NDArray[np.uint8]

_ADDRESS = re.compile(r"\w{2,}:/")  # one slash, as a Path has of two
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """Read a file as `to_rgb` gives it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, is cut off, or is too large to be one; the message names it.
    """
    try:
        return decode_rgb(expand_home(path))
    except FileNotFoundError:
        web = _ADDRESS.match(str(path))
        fix = "addresses are not opened: download it and give the file" if web else "check the path"
        raise FileNotFoundError(f"there is no image at {path}; {fix}.") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; give the images in it.") from None
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise ValueError(f"{path} cannot be read as an image ({error}); give a whole JPEG, PNG, TIFF ...") from error


def decode_rgb(path: str | Path) -> NDArray[np.uint8]:
    """Read a file as `to_rgb` gives it, and raise what Pillow raises: for callers with a message of their own."""
    with Image.open(path) as image:
        return _from_pil(image)


class UnreadableFile(ValueError):
    """A file that should be a picture does not decode; the message names it."""


@contextmanager
def decoding(what: str, *, missing: str, fix: str) -> Iterator[None]:
    """What Pillow raises for a file that is absent or damaged, as FileNotFoundError and `UnreadableFile`.

    Args:
        what: the file, such as "label map a.png".
        missing, fix: what to do where it does not exist, and where it does not decode.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{what} does not exist; {missing}.") from None
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise UnreadableFile(f"{what} does not decode ({error}); {fix}.") from error


def to_rgb(image: Picture) -> NDArray[np.uint8]:
    """Turn any picture into H×W×3 uint8 RGB in [0, 255].

    Args:
        image: a path; a PIL image of any mode (turned as its EXIF orientation says, wider grays scaled to 8 bits as
            `_eight_bits` does, transparency laid on white); or an array, H×W×3 uint8 RGB or H×W uint8 gray, which is
            taken as upright.

    Raises:
        FileNotFoundError, ValueError: as `read_picture`; an array of another shape or type, or of no pixel.
    """
    if isinstance(image, str | Path):
        return read_picture(image)
    if isinstance(image, Image.Image):
        try:
            return _from_pil(image)
        except Exception as error:  # the file behind it is first read here
            raise ValueError(f"the PIL image cannot be read ({error}); give a whole picture.") from error
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image must be a path, a PIL image or an array, but got {type(image).__name__}.")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(
            f"an image array must be H×W×3 uint8 RGB or H×W uint8 gray, but got shape {image.shape} and {image.dtype}."
        )
    if image.size == 0:
        raise ValueError(f"an image must have at least one pixel, but got an array of shape {image.shape}.")
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2))


def is_turned(image: Image.Image) -> bool:
    """Whether an opened picture is shown with its stored width as its height, by its EXIF orientation.

    Of a PNG whose header has no EXIF all pixels are decoded, because it may follow them; of other formats the header is
    enough. Of a TIFF, `image.size` is turned already.
    """
    if image.format == "PNG" and "exif" not in image.info:
        image.load()
    return image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1…8: 1 where the metadata have none, or cannot be read, as no pixel depends on them."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises half a dozen types for damaged metadata
        return 1
    return int(value) if value in range(1, 9) else 1


def _from_pil(image: Image.Image) -> NDArray[np.uint8]:
    if 0 in image.size:
        raise ValueError(f"it has no pixel: its size is {image.width}×{image.height}")
    upright = _upright(image)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        return to_rgb(_eight_bits(np.asarray(upright)))
    if upright.mode == "La":  # Pillow reads no other mode from it
        upright = upright.convert("LA")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(upright.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    """The pixels turned by the EXIF orientation; no tag is written anew, which fails for many that cameras write."""
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):  # a TIFF's, typed as text: Pillow searches it as bytes while it loads the pixels
        image.info["xmp"] = xmp.encode(errors="replace")
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _eight_bits(gray: NDArray[np.number]) -> NDArray[np.uint8]:
    """Scale grays to 0…255: of uint16 by its range, of wider integers and floats by what they hold.

    Floats in [0, 1] and values in [0, 255] are taken as just that range; others are stretched from the lowest to the
    highest.
    """
    values = gray.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if gray.dtype.kind == "u":
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 and gray.dtype.kind == "f" else 255.0
    return np.round((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
