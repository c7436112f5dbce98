"""Pictures that people bring, as the models want them: H×W×3 uint8 RGB, upright."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from possam.data.addresses import download_picture, web_address
from possam.utils.files import expand_home

__all__ = ["Picture", "UnreadableFile", "decode_rgb", "decoding", "is_turned", "read_picture", "to_rgb"]

Picture = str | Path | bytes | IO[bytes] | Image.Image | NDArray[np.uint8] | torch.Tensor

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
    """Read a file, or what is at an http or https address where there is no such file, as `to_rgb` gives it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, is cut off, or is too large to be one, or the address cannot be read
            (`download_picture`); the message names it.
    """
    full = expand_home(path)
    if os.path.exists(full) and not os.path.isfile(full) and not os.path.isdir(full):  # reading would wait for ever
        raise ValueError(f"{path} is no regular file, but a pipe or a device; write the image to a file and give that.")
    try:
        return decode_rgb(full)
    except FileNotFoundError:
        if address := web_address(path):
            return _decoded(download_picture(address), address)
        web = _ADDRESS.match(str(path))
        fix = "only http and https are opened: download it and give the file" if web else "check the path"
        raise FileNotFoundError(f"there is no image at {path}; {fix}.") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; give the images in it.") from None
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise _unreadable(str(path), error) from error


def _decoded(content: bytes, name: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return _from_pil(image)
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> ValueError:
    # Pillow's own message for an unknown format shows the repr of the file object.
    unknown = isinstance(error, UnidentifiedImageError)
    reason = "the format is none that Pillow reads" if unknown else str(error) or type(error).__name__
    return ValueError(f"{name} cannot be read as an image ({reason}); give a whole JPEG, PNG, TIFF ...")


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
        image: one of

            - a path, or an http or https address (100 MB and 120 seconds at most);
            - the bytes of a file, or a file opened for reading bytes, read from where it stands;
            - a PIL image of any mode. Of this and the above, EXIF orientation is applied, wider grays are scaled to 8
              bits as `_eight_bits` does, and transparency is laid on white;
            - an array, H×W×3 uint8 RGB or H×W uint8 gray, which is taken as upright. **RGB is the caller's duty**: BGR
              arrays, as of OpenCV, look the same; pass ``image[..., ::-1]``, or colors are swapped without a message;
            - a torch tensor on any device, 3×H×W RGB or 1×H×W gray, uint8 in [0, 255] or floating point in [0, 1], as
              torchvision's ``decode_image`` and ``to_tensor`` give it; not normalized.

    Raises:
        FileNotFoundError, ValueError: as `read_picture`; an array or tensor of another shape, type or range, or of no
            pixel.
    """
    if isinstance(image, str | Path):
        return read_picture(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return _decoded(bytes(image), "the bytes given")
    if isinstance(image, torch.Tensor):
        return _from_tensor(image)
    if isinstance(image, Image.Image):
        try:
            return _from_pil(image)
        except Exception as error:  # the file behind it is first read here
            raise ValueError(f"the PIL image cannot be read ({error}); give a whole picture.") from error
    if not isinstance(image, np.ndarray) and hasattr(image, "read"):
        if not isinstance(content := image.read(), bytes):
            raise ValueError('a file of an image must be opened for reading bytes: open(path, "rb").')
        return _decoded(content, f"the open file {getattr(image, 'name', '')}".strip())
    if not isinstance(image, np.ndarray):
        raise ValueError(
            "an image must be a path, an address, bytes, an open file, a PIL image, an array or a tensor, but got "
            f"{type(image).__name__}."
        )
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(
            f"an image array must be H×W×3 uint8 RGB or H×W uint8 gray, but got shape {image.shape} and {image.dtype}."
        )
    if image.size == 0:
        raise ValueError(f"an image must have at least one pixel, but got an array of shape {image.shape}.")
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2))


def _from_tensor(image: torch.Tensor) -> NDArray[np.uint8]:
    known = image.dtype == torch.uint8 or image.is_floating_point()
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not known:
        raise ValueError(
            "an image tensor must be 3×H×W RGB or 1×H×W gray, uint8 or floating point in [0, 1], but got shape "
            f"{tuple(image.shape)} and {image.dtype}."
        )
    values = image.detach().cpu()
    if values.is_floating_point():
        low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 1.0)
        if not (low >= 0 and high <= 1):  # NaN, too
            raise ValueError(
                f"an image tensor of floating point must be in [0, 1], but its values go from {low:.3g} to {high:.3g}; "
                "undo its normalization, or give uint8 in [0, 255]."
            )
        values = (values.float() * 255).round().to(torch.uint8)
    pixels = values.permute(1, 2, 0).numpy()
    return to_rgb(pixels[..., 0] if len(image) == 1 else pixels)


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
