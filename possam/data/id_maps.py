"""Panoptic id maps: the RGB PNGs of the COCO panoptic format, and maps of small indices made of them.

A PNG's pixel holds a segment id as colour: ``id = R + 256·G + 256²·B``; id 0 is void (no annotation).

Shapes: H×W the image, S segments.
"""

import struct
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from possam.data.pictures import decoding
from possam.files import write_atomically
from possam.messages import few

__all__ = [
    "MAX_ID",
    "VOID_ID",
    "check_ids",
    "distinct",
    "id_to_rgb",
    "index_ids",
    "read_id_map",
    "rgb_to_id",
    "runs",
    "write_id_map",
]

VOID_ID = 0
MAX_ID = 256**3 - 1


def rgb_to_id(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """H×W×3 uint8 RGB → H×W int32 segment ids in [0, 2²⁴ − 1]."""
    ids = rgb[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= rgb[..., channel]
    return ids


def id_to_rgb(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """H×W integer segment ids in [0, 2²⁴ − 1] → H×W×3 uint8 RGB."""
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) > MAX_ID):
        raise ValueError(
            f"segment ids must be in [0, {MAX_ID}] to fit three bytes of colour, but they are in "
            f"[{ids.min()}, {ids.max()}]."
        )
    return np.ascontiguousarray(ids.astype("<u4")[..., None].view(np.uint8)[..., :3])


def read_id_map(
    path: str | Path, *, check_size: Callable[[tuple[int, int]], object] = lambda size: None
) -> NDArray[np.int32]:
    """Read a panoptic PNG as an H×W int32 map of segment ids.

    Args:
        path: the PNG.
        check_size: is called with the (height, width) that the file states, before its pixels take memory; raises
            what is to be raised for another size than expected.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not decode, or is not an RGB picture; the message names the file.
    """
    what = {"what": f"panoptic PNG {path}", "missing": "check panoptic_root", "mend": "export it again"}
    with decoding(**what):
        picture = Image.open(path)
    with picture:
        check_size((picture.height, picture.width))
        # Not torchvision's decoder, which takes three quarters of the time: damaged files end the process.
        with decoding(**what):
            picture.load()
            mode = picture.mode
            pixels = np.asarray(picture) if mode in ("RGB", "RGBA") else None
    if pixels is None:
        raise ValueError(
            f"panoptic PNG {path} has mode {mode}, but RGB is expected (id = R + 256·G + 256²·B); "
            "export it in the COCO panoptic format."
        )
    return rgb_to_id(pixels[..., :3])


def write_id_map(path: str | Path, ids: NDArray[np.integer]) -> None:
    """Write an H×W map of segment ids as an RGB PNG, all of it or nothing."""
    rgb = id_to_rgb(ids)
    height, width = ids.shape
    # Rows without a filter: segments repeat whole rows, which a filter only hides. A quarter of Pillow's time to write,
    # and half the time to read, for a file two thirds larger.
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    rows[:, 1:] = rgb.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows.data, level=3)), (b"IEND", b"")
    content = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)
    write_atomically(path, lambda file: file.write(content))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def runs(*maps: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stretches of pixels, in reading order, along which none of the maps changes.

    Maps of segments have few: what is looked up or counted by run costs little more than finding them.

    Args:
        maps: of one shape.
    Returns:
        R int64, the first pixel of each in the flattened maps, and R int64, their lengths in pixels.
    """
    begins = np.zeros(maps[0].size, dtype=bool)
    begins[:1] = True
    for one in maps:
        flat = one.ravel()
        begins[1:] |= flat[1:] != flat[:-1]
    starts = np.flatnonzero(begins)
    return starts, np.diff(starts, append=begins.size)


def distinct(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """The values that occur in a map, in order, each once."""
    return np.unique(values.ravel()[runs(values)[0]])


def index_ids(id_map: NDArray[np.integer], ids: Sequence[int]) -> NDArray[np.int64]:
    """Replace every pixel's id by its position in `ids`.

    Args:
        id_map: H×W segment ids, ≥ 0.
        ids: the S distinct ids that may occur, in any order, without 0 (void).
    Returns:
        H×W int64: 0 for void, ``i + 1`` for ``ids[i]``, −1 where the pixel's id is none of them.
    """
    starts, lengths = runs(id_map)
    return np.repeat(_places(id_map.ravel()[starts], ids), lengths).reshape(id_map.shape)


def check_ids(
    id_map: NDArray[np.integer], ids: Sequence[int], *, source: str, hidden: Collection[int] = ()
) -> NDArray[np.int64]:
    """`index_ids`, for a map in which exactly `ids` (and void) must occur, of which those in `hidden` need not.

    Raises:
        ValueError: the map holds ids that are not listed, or listed ids do not occur in the map; the message
            starts with `source` and names the ids.
    """
    starts, lengths = runs(id_map)
    values = id_map.ravel()[starts]
    places = _places(values, ids)
    unknown = np.unique(values[places < 0])
    if len(unknown):
        raise ValueError(
            f"{source}: segment ids {few(unknown.tolist())} are in the PNG and not in the JSON's "
            "segments_info; take PNG and JSON from the same export."
        )
    counts = np.bincount(places, minlength=len(ids) + 1)[1:]
    missing = [segment for segment, count in zip(ids, counts, strict=True) if not count and segment not in hidden]
    if missing:
        raise ValueError(
            f"{source}: segment ids {few(missing)} are in the JSON's "
            "segments_info and have no pixel in the PNG; take PNG and JSON from the same export."
        )
    return np.repeat(places, lengths).reshape(id_map.shape)


def _places(values: NDArray[np.integer], ids: Sequence[int]) -> NDArray[np.int64]:
    """`index_ids` of any array."""
    known = np.asarray([VOID_ID, *ids], dtype=np.int64)
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], values).clip(max=len(known) - 1)
    return np.where(known[order][place] == values, order[place], -1)
