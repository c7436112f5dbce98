"""The commonest preparation: each official label map becomes one, or two, with contiguous classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.data.preparation.pictures import apply_table, is_whole, read_pixels, size_of, write_picture
from possam.data.preparation.plan import Plan, Task
from possam.vocabulary import Vocabulary

__all__ = ["IGNORE", "class_table", "label_map_plan", "read_label_map"]

# Of pixels without a class, by the map's suffix.
IGNORE = {".png": 255, ".tif": 65535}
_MODES = {".png": "L", ".tif": "I;16"}
_TYPES: dict[str, Any] = {".png": np.uint8, ".tif": np.uint16}


def class_table(vocabulary: str, *, unlabeled: Mapping[int, int], shift: int = 0) -> NDArray[np.int32]:
    """The lookup table from official values to contiguous classes: int32, −1 for values that cannot be.

    Args:
        vocabulary: a shipped table, whose ids plus `shift` are the official values.
        unlabeled: official values that are no class, and what they become; where a class has one of them, the
            class goes first.
    """
    contiguous = Vocabulary.load(vocabulary).contiguous_id
    values = {**unlabeled, **{number + shift: place for number, place in contiguous.items()}}
    table = np.full(max(values) + 1, -1, dtype=np.int32)
    table[list(values)] = list(values.values())
    return table


def read_label_map(path: Path) -> NDArray[Any]:
    """H×W uint8 of a gray or palette picture (`read_pixels`)."""
    return read_pixels(path, ("L", "P"))


def label_map_plan(
    tasks: Sequence[Task],
    tables: Sequence[NDArray[np.int32]],
    expected: str,
    *,
    read: Callable[[Path], NDArray[Any]] = read_label_map,
    space: float = 1.0,
) -> Plan:
    """Maps of one source and as many targets as there are tables, each by its own.

    A target's suffix says its type: ".png" 8 bits, ".tif" 16.

    Args:
        expected: the values that an official map has, for messages.
        read: decodes an official map to H×W integers ≥ 0. Where that is no picture, a task's second source is the
            picture that tells the size.
        space: see `Plan`.
    """
    work = partial(_convert, tuple(tables), expected, read)
    return Plan(tasks=tasks, work=work, is_whole=_maps_are_whole, space=space * len(tables))


def _convert(
    tables: tuple[NDArray[np.int32], ...], expected: str, read: Callable[[Path], NDArray[Any]], task: Task
) -> tuple[int, None]:
    source = task.sources[0]
    values = read(source)
    # All are made before the first is written: a wrong map leaves nothing behind.
    maps = [apply_table(values, table, source, expected) for table in tables]
    pairs = zip(task.targets, maps, strict=True)
    return sum(write_picture(target, pixels.astype(_TYPES[target.suffix])) for target, pixels in pairs), None


def _maps_are_whole(task: Task) -> bool:
    """Whether a task's targets are whole maps of the size of its last source."""
    size = size_of(task.sources[-1])
    return all(is_whole(target, size, _MODES[target.suffix]) for target in task.targets)
