"""Scenes of the made-up datasets: two stuff regions, two things and void."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Size = tuple[int, int]
THINGS = (3, 4)


def scene(number: int, size: Size) -> np.ndarray:
    """H×W int64: 0 void (the left edge), 1 and 2 stuff (above, below), 3 and 4 things, moved by `number`."""
    height, width = size
    assert height >= 16 and width >= 16, "a scene needs 16×16 pixels"
    index = np.ones(size, dtype=np.int64)
    index[height // 2 :] = 2
    index[:, :2] = 0
    for value, (top, left, bottom, right) in boxes(number, size).items():
        index[top:bottom, left:right] = value
    return index


def boxes(number: int, size: Size) -> dict[int, tuple[int, int, int, int]]:
    """(top, left, bottom, right) of the two things, right and bottom exclusive; they do not overlap."""
    height, width = size
    shift = number % 3
    return {
        3: (height // 4, width // 4 + shift, height // 4 + height // 3, width // 2),
        4: (height // 2 + 1, width // 2 + 2 + shift, height // 2 + 1 + height // 4, width - 4),
    }


def classes_of(number: int, stuff: tuple[int, ...], things: tuple[int, ...]) -> list[int]:
    """The classes of a scene's regions 1 … 4; every class has its turn."""
    return [
        stuff[number % len(stuff)],
        stuff[(number + 1) % len(stuff)],
        things[number % len(things)],
        things[(number + 1) % len(things)],
    ]


def recolor(index: np.ndarray, values: list[int], void: int, dtype: type) -> np.ndarray:
    """A scene with `values` in place of 1 … 4 and `void` in place of 0."""
    return np.array([void, *values])[index].astype(dtype)


def segments_of(index: np.ndarray, ids: list[int], classes: list[int], crowds: tuple[int, ...] = ()) -> list[dict]:
    """`segments_info` of the COCO panoptic format; `crowds` are regions."""
    result = []
    for region, (segment_id, category) in enumerate(zip(ids, classes, strict=True), start=1):
        rows, columns = np.nonzero(index == region)
        box = [columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1]
        result.append(
            {
                "id": segment_id,
                "category_id": category,
                "area": len(rows),
                "bbox": [int(value) for value in box],
                "iscrowd": int(region in crowds),
            }
        )
    return result


def save_photo(path: Path, number: int, size: Size) -> None:
    """A picture of colored noise, as JPEG or PNG by the path's end."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BILINEAR).save(path)


def save_map(path: Path, pixels: np.ndarray, *, palette: bool = False) -> None:
    """A PNG of H×W uint8 or uint16, or of H×W×3 uint8; `palette` stores the values as palette indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette([value for color in range(256) for value in (color, color * 7 % 256, 255 - color)])
    picture.save(path)


def save_ids(path: Path, ids: np.ndarray) -> None:
    """A panoptic PNG: id = R + 256·G + 256²·B."""
    save_map(path, np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8))


def save_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def save_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def rectangle(box: tuple[int, int, int, int]) -> list[float]:
    """A COCO polygon around a box of `boxes`."""
    top, left, bottom, right = (float(value) for value in box)
    return [left, top, right, top, right, bottom, left, bottom]
