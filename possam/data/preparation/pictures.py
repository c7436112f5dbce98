"""Label maps and pictures on disk: reading with plain errors, writing whole files, and telling whole from damaged.

Shapes: H×W the picture.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from possam.utils.files import write_atomically
from possam.utils.messages import few

__all__ = [
    "apply_table",
    "is_whole",
    "link_or_copy",
    "read_pixels",
    "size_of",
    "write_picture",
]

_AGAIN = "unpack the official archive again"
_DECODE_ERRORS = (UnidentifiedImageError, OSError, SyntaxError, ValueError)
# The last bytes of a whole PNG.
_PNG_END = b"IEND\xaeB`\x82"


def read_pixels(path: Path, modes: Sequence[str]) -> NDArray[Any]:
    """Decode a picture without converting it: palette indices stay indices.

    Args:
        modes: Pillow's modes that are right here, such as "L", "P", "RGB" or "I;16".
    Returns:
        H×W, or H×W×channels, of the file's own type.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not decode, or has another mode; names the file.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            mode, pixels = picture.mode, np.asarray(picture)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; {_AGAIN}.") from None
    except _DECODE_ERRORS as error:
        raise ValueError(f"{path} does not decode ({error}); {_AGAIN}.") from error
    if mode not in modes:
        raise ValueError(f"{path} has mode {mode}, but {' or '.join(modes)} is expected; {_AGAIN}.")
    return pixels


def apply_table(values: NDArray[Any], table: NDArray[Any], path: Path, expected: str) -> NDArray[Any]:
    """Replace every value by `table[value]`, where −1 marks values that cannot be.

    Args:
        values: H×W unsigned integers read from `path`.
        table: int32, −1 or the new value.
        expected: the values that can be, for the message.
    Returns:
        H×W int32.
    Raises:
        ValueError: the map has other values; names the file and them.
    """
    known = (values < len(table)) & (values >= 0)
    result = table[np.where(known, values, 0)]
    wrong = ~known | (result < 0)
    if wrong.any():
        raise ValueError(
            f"{path} has the values {few(np.unique(values[wrong]).tolist())}, but {expected} are expected; "
            f"{_AGAIN}, and check that it is the right one."
        )
    return result


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or no such header; names the file.
    """
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; {_AGAIN}.") from None
    except _DECODE_ERRORS as error:
        raise ValueError(f"{path} does not decode ({error}); {_AGAIN}.") from error


def is_whole(path: Path, size: tuple[int, int], mode: str) -> bool:
    """Whether a file is a picture of (height, width) and mode, to its last byte.

    PNGs are judged by header and end, which is 50 times faster than decoding; other formats are decoded.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns of TIFFs whose end is missing.
            warnings.simplefilter("error", UserWarning)
            with Image.open(path) as picture:
                if (picture.height, picture.width, picture.mode) != (*size, mode):
                    return False
                if picture.format != "PNG":
                    picture.load()
                    return True
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except (*_DECODE_ERRORS, UserWarning):
        return False


def write_picture(path: Path, pixels: NDArray[Any]) -> int:
    """Write H×W uint8 or uint16, or H×W×3 uint8, unless the file holds just that; the path's end is the format.

    JPEGs, which do not decode to what was encoded, are written always. TIFFs are compressed without loss.

    Returns:
        the number of files written, 0 or 1.
    """
    kind = path.suffix.lower()
    picture = Image.fromarray(pixels)
    if kind != ".jpg" and is_whole(path, (picture.height, picture.width), picture.mode) and _holds(path, pixels):
        return 0
    formats: dict[str, dict[str, Any]] = {
        ".png": {"format": "PNG"},
        ".tif": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
        ".jpg": {"format": "JPEG"},
    }
    write_atomically(path, lambda file: picture.save(file, **formats[kind]))
    return 1


def _holds(path: Path, pixels: NDArray[Any]) -> bool:
    try:
        with Image.open(path) as picture:
            return np.array_equal(np.asarray(picture), pixels)
    except _DECODE_ERRORS:
        return False


def link_or_copy(source: Path, target: Path) -> int:
    """Make `target` the same file as `source` where the disk can, otherwise a copy of it.

    Returns:
        the number of files made: 1.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or one without hard links.
        with source.open("rb") as content:
            write_atomically(target, lambda file: shutil.copyfileobj(content, file))
    return 1
