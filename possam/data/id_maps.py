"""Panoptic id maps: the RGB PNGs of the COCO panoptic format, and maps of small indices made of them.

A PNG's pixel holds a segment id as color: ``id = R + 256·G + 256²·B``; id 0 is void (no annotation).

Shapes: H×W the image, S segments.
"""

import struct
from collections.abc import Callable, Collection, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from zlib_ng import zlib_ng

from possam.data.pictures import decoding
from possam.utils.files import write_atomically
from possam.utils.messages import few

__all__ = [
    "MAX_ID",
    "VOID_ID",
    "areas_and_boxes",
    "check_ids",
    "check_values",
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
_WORDS = {"RGB": "RGBX", "RGBA": "RGBA"}  # a picture's mode → its pixels as four bytes each, of which three are the id
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT_RGB = b"\x08\x02\0\0\0"  # the end of a header: bits, color type, deflated, filtered by row, not interlaced


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
            f"segment ids must be in [0, {MAX_ID}] to fit three bytes of color, but they are in "
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
    what = {"what": f"panoptic PNG {path}", "missing": "check panoptic_root", "fix": "export it again"}
    with decoding(**what):
        picture = Image.open(path)
    with picture:
        check_size((picture.height, picture.width))
        # Not torchvision's decoder: damaged files end the process.
        with decoding(**what):
            rows = _inflate(Path(path).read_bytes())
            if rows is not None and not rows[:, 0].any():
                return _unfiltered(rows)
            if rows is not None:  # Pillow undoes the filters; its zlib, the system's, is slow to inflate
                height, width = rows.shape[0], rows.shape[1] // 3
                with Image.open(BytesIO(_png(width, height, zlib_ng.compress(rows, 0)))) as stored:
                    return _ids(stored)
            if picture.mode in _WORDS:
                return _ids(picture)
    raise ValueError(
        f"panoptic PNG {path} has mode {picture.mode}, but RGB is expected (id = R + 256·G + 256²·B); "
        "export it in the COCO panoptic format."
    )


def _ids(picture: Image.Image) -> NDArray[np.int32]:
    words = np.frombuffer(picture.tobytes("raw", _WORDS[picture.mode]), dtype="<i4")
    return (words & MAX_ID).reshape(picture.height, picture.width)


def _inflate(png: bytes) -> NDArray[np.uint8] | None:
    """The H×(1 + 3W) bytes that an 8-bit RGB PNG holds, a filter and a row of pixels each; None for any other file, and
    where these are not they, which Pillow is to judge."""
    if png[:16] != _SIGNATURE + b"\0\0\0\rIHDR" or png[24:29] != _EIGHT_BIT_RGB:
        return None
    width, height = struct.unpack(">II", png[16:24])
    deflated, name, at = [], b"", len(_SIGNATURE)
    while name != b"IEND" and at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if name == b"IDAT":
            deflated.append(png[at + 8 : at + 8 + length])
        at += 12 + length
    stream, size = zlib_ng.decompressobj(), height * (1 + 3 * width)
    content = stream.decompress(b"".join(deflated), size + 1)  # never more, whatever a file unpacks to
    if len(content) != size:
        return None
    return np.frombuffer(content, dtype=np.uint8).reshape(height, -1)


def _unfiltered(rows: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Ids of rows without a filter: a pixel and the byte before it are a word."""
    height, stride = rows.shape
    words = np.ndarray((height, stride // 3), dtype="<u4", buffer=rows, strides=(stride, 3))
    return (words >> 8).view(np.int32)


def write_id_map(path: str | Path, ids: NDArray[np.integer]) -> None:
    """Write an H×W map of segment ids as an RGB PNG, all of it or nothing."""
    rgb = id_to_rgb(ids)
    height, width = ids.shape
    # Rows without a filter: segments repeat whole rows, which a filter only hides. A quarter of Pillow's time to write,
    # and far less to read, for a file half as large again.
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    rows[:, 1:] = rgb.reshape(height, -1)
    content = _png(width, height, zlib_ng.compress(rows, 3))
    write_atomically(path, lambda file: file.write(content))


def _png(width: int, height: int, deflated: bytes) -> bytes:
    header = struct.pack(">II", width, height) + _EIGHT_BIT_RGB
    parts = [_SIGNATURE]
    for name, data in ((b"IHDR", header), (b"IDAT", deflated), (b"IEND", b"")):
        check = zlib_ng.crc32(data, zlib_ng.crc32(name))
        parts += [struct.pack(">I", len(data)), name, data, struct.pack(">I", check)]
    return b"".join(parts)


def runs(*maps: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stretches of pixels, in reading order, along which none of the maps changes.

    Maps of segments have few: what is looked up or counted by run costs little more than finding them.

    Args:
        maps: of one shape.
    Returns:
        R int64, the first pixel of each in the flattened maps, and R int64, their lengths in pixels.
    """
    first, *others = (one.ravel() for one in maps)
    words = np.zeros(-(-first.size // 8), dtype=np.uint64)
    begins = words.view(bool)[: first.size]
    begins[:1] = True
    np.not_equal(first[1:], first[:-1], out=begins[1:])
    for other in others:
        begins[1:] |= other[1:] != other[:-1]
    # Most words are empty, and eight pixels of those are passed by at once.
    occupied = np.flatnonzero(words != 0)
    places = np.flatnonzero(words[occupied].view(bool))
    starts = occupied[places >> 3] * 8 + (places & 7)
    return starts, np.diff(starts, append=first.size)


def distinct(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """The values that occur in a map, in order, each once."""
    return np.unique(values.take(runs(values)[0]))


def areas_and_boxes(
    index: NDArray[np.int64], starts: NDArray[np.int64], pixels: NDArray[np.int64], *, width: int, count: int
) -> tuple[list[int], list[list[int]]]:
    """Area in pixels and box (x, y, width, height) of each segment, from runs of a map whose rows are `width` long.

    Args:
        index: R, 0 for no segment, ``j + 1`` for segment j < `count`.
        starts, pixels: first pixel and length of each run (`runs`).
    """
    areas = np.bincount(index, weights=pixels, minlength=count + 1).astype(np.int64)
    top, left = np.divmod(starts, width)
    bottom, right = np.divmod(starts + pixels - 1, width)
    wraps = top < bottom  # from the end of a row to the start of the next
    left, right = np.where(wraps, 0, left), np.where(wraps, width - 1, right)
    first, last = np.full((2, count + 1), np.iinfo(np.int64).max), np.full((2, count + 1), -1)
    for axis, (low, high) in enumerate(((left, right), (top, bottom))):
        np.minimum.at(first[axis], index, low)
        np.maximum.at(last[axis], index, high)
    return areas[1:].tolist(), np.concatenate([first, last - first + 1])[:, 1:].T.tolist()


def index_ids(id_map: NDArray[np.integer], ids: Sequence[int]) -> NDArray[np.int64]:
    """Replace every pixel's id by its position in `ids`.

    Args:
        id_map: H×W segment ids, ≥ 0.
        ids: the S distinct ids that may occur, in any order, without 0 (void).
    Returns:
        H×W int64: 0 for void, ``i + 1`` for ``ids[i]``, −1 where the pixel's id is none of them.
    """
    starts, lengths = runs(id_map)
    return np.repeat(_places(id_map.take(starts), ids), lengths).reshape(id_map.shape)


def check_ids(
    id_map: NDArray[np.integer], ids: Sequence[int], *, source: str, hidden: Collection[int] = ()
) -> NDArray[np.int64]:
    """`index_ids`, for a map in which exactly `ids` (and void) must occur, of which those in `hidden` need not.

    Raises:
        ValueError: the map holds ids that are not listed, or listed ids do not occur in the map; the message
            starts with `source` and names the ids.
    """
    starts, lengths = runs(id_map)
    places = check_values(id_map.take(starts), ids, source=source, hidden=hidden)
    return np.repeat(places, lengths).reshape(id_map.shape)


def check_values(
    values: NDArray[np.integer], ids: Sequence[int], *, source: str, hidden: Collection[int] = ()
) -> NDArray[np.int64]:
    """`check_ids`, for the values of a map's runs."""
    places = _places(values, ids)
    occurs = np.zeros(len(ids) + 2, dtype=bool)
    occurs[places] = True  # the last is what is not listed
    if occurs[-1]:
        unknown = np.unique(values[places < 0])
        raise ValueError(
            f"{source}: segment ids {few(unknown.tolist())} are in the PNG and not in the JSON's "
            "segments_info; take PNG and JSON from the same export."
        )
    missing = [segment for segment, seen in zip(ids, occurs[1:-1], strict=True) if not seen and segment not in hidden]
    if missing:
        raise ValueError(
            f"{source}: segment ids {few(missing)} are in the JSON's "
            "segments_info and have no pixel in the PNG; take PNG and JSON from the same export."
        )
    return places


def _places(values: NDArray[np.integer], ids: Sequence[int]) -> NDArray[np.int64]:
    """`index_ids` of any array."""
    known = np.asarray([VOID_ID, *ids], dtype=np.int64)
    order = np.arange(len(known))
    table, slots = np.zeros(4096, dtype=np.int64), _slots(known)
    table[slots] = order
    if np.array_equal(table[slots], order):  # each id has a slot of its own
        place = table.take(_slots(values))
    else:
        order = np.argsort(known, kind="stable")
        place = order[np.searchsorted(known[order], values).clip(max=len(known) - 1)]
    return np.where(known.take(place) == values, place, -1)


def _slots(ids: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Fibonacci hashing to 12 bits: 2³² over the golden ratio, times the id (Knuth, TAOCP 3, 6.4)."""
    return (ids.astype(np.uint32) * np.uint32(2654435769)) >> np.uint32(20)
