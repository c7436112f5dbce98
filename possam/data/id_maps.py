"""Panoptic id maps: the RGB PNGs of the COCO panoptic format, and maps of small indices made of them.

A PNG's pixel holds a segment id as colour: ``id = R + 256·G + 256²·B``; id 0 is void (no annotation).

Shapes: H×W the image, S segments.
"""

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
    "id_to_rgb",
    "index_ids",
    "read_id_map",
    "rgb_to_id",
    "write_id_map",
]

VOID_ID = 0
MAX_ID = 256**3 - 1
_TABLE_SIZE = 1 << 16


def rgb_to_id(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """H×W×3 uint8 RGB → H×W int32 segment ids in [0, 2²⁴ − 1]."""
    wide = rgb.astype(np.int32)
    return wide[..., 0] + (wide[..., 1] << 8) + (wide[..., 2] << 16)


def id_to_rgb(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """H×W integer segment ids in [0, 2²⁴ − 1] → H×W×3 uint8 RGB."""
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) > MAX_ID):
        raise ValueError(
            f"segment ids must be in [0, {MAX_ID}] to fit three bytes of colour, but they are in "
            f"[{ids.min()}, {ids.max()}]."
        )
    return np.stack([(ids >> shift) & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


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
    picture = Image.fromarray(id_to_rgb(ids))
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


def index_ids(id_map: NDArray[np.integer], ids: Sequence[int]) -> NDArray[np.int64]:
    """Replace every pixel's id by its position in `ids`.

    Args:
        id_map: H×W segment ids, ≥ 0.
        ids: the S distinct ids that may occur, in any order, without 0 (void).
    Returns:
        H×W int64: 0 for void, ``i + 1`` for ``ids[i]``, −1 where the pixel's id is none of them.
    """
    known = np.asarray([VOID_ID, *ids], dtype=np.int64)
    largest = int(max(known.max(), id_map.max(initial=0)))
    if largest < max(_TABLE_SIZE, id_map.size):
        table = np.full(largest + 1, -1, dtype=np.int64)
        table[known] = np.arange(len(known))
        return table[id_map]
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], id_map).clip(max=len(known) - 1)
    return np.where(known[order][place] == id_map, order[place], -1)


def check_ids(
    id_map: NDArray[np.integer], ids: Sequence[int], *, source: str, hidden: Collection[int] = ()
) -> NDArray[np.int64]:
    """`index_ids`, for a map in which exactly `ids` (and void) must occur, of which those in `hidden` need not.

    Raises:
        ValueError: the map holds ids that are not listed, or listed ids do not occur in the map; the message
            starts with `source` and names the ids.
    """
    index = index_ids(id_map, ids)
    unknown = np.unique(id_map[index < 0])
    if len(unknown):
        raise ValueError(
            f"{source}: segment ids {few(unknown.tolist())} are in the PNG and not in the JSON's "
            "segments_info; take PNG and JSON from the same export."
        )
    counts = np.bincount(index.ravel(), minlength=len(ids) + 1)[1:]
    missing = [segment for segment, count in zip(ids, counts, strict=True) if not count and segment not in hidden]
    if missing:
        raise ValueError(
            f"{source}: segment ids {few(missing)} are in the JSON's "
            "segments_info and have no pixel in the PNG; take PNG and JSON from the same export."
        )
    return index
