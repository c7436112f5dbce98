"""Colors of one picture's segments: shades of their classes' colors that can be told apart.

Shapes: n segments, S shades of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from possam.visualize.color_difference import seen_with, smallest_difference, to_lab
from possam.visualize.colors import BLACK, RGB, WHITE, class_color, mix

__all__ = ["APART", "INSTANCES", "TOUCHING", "segment_colors"]

TOUCHING, APART, INSTANCES = 10.0, 5.0, 5.0
"""Differences (`smallest_difference`) that are wanted between segments that touch, of two classes, and of one class:
that much ΔE (CIEDE2000) to normal vision, and two thirds of it under each color-vision deficiency."""

_STEP, _DARKEST, _LIGHTEST, _COUNT = 4.0, 20.0, 96.0, 18  # of a class's shades, in L*
_REACH = (1, 3)  # pixels between segments that touch; masks often leave a thin gap
_SIDE = 1024  # of the map that touching is looked for on


def segment_colors(index: NDArray[np.integer], classes: Sequence[int]) -> list[RGB]:
    """A color for each segment.

    The largest segment of a class gets the color of the class (`class_color`), others lighter or darker shades of it.
    Where a difference would be less than `TOUCHING`, `APART` or `INSTANCES` asks for, the smaller segment takes the
    first shade that keeps them, or in a crowd the one that misses least. So a class keeps its hue in every picture of a
    vocabulary, and only how light it is depends on the picture.

    Args:
        index: H×W, 0 for no segment, ``i + 1`` for segment i.
        classes: position of each segment's class in the vocabulary.
    """
    count = len(classes)
    if not count:
        return []
    step = -(-max(index.shape) // _SIDE)
    small = index[::step, ::step]
    areas = np.bincount(small.ravel(), minlength=count + 1)[1:]
    touching, own = _touching(small, count), np.asarray(classes)
    shades = np.array([_shades(int(k)) for k in classes])
    seen = seen_with(shades)
    chosen = np.full(count, -1)
    for i in sorted(range(count), key=lambda i: (-areas[i], i)):
        done = np.flatnonzero(chosen >= 0)
        wanted = np.where(touching[i, done], TOUCHING, np.where(own[done] == own[i], INSTANCES, APART))
        others = seen[:, done, chosen[done]]
        missing = (1 - smallest_difference(seen[:, i, :, None], others[:, None]) / wanted).clip(min=0)  # S×(others)
        chosen[i] = missing.max(axis=1, initial=0).argmin()
    return [(int(r), int(g), int(b)) for r, g, b in shades[np.arange(count), chosen]]


@lru_cache(maxsize=4096)
def _shades(position: int) -> NDArray[np.uint8]:
    """Shades of a class's color, S×3: its own, then lighter and darker ones in turn, in steps of L*."""
    color = class_color(position)
    mixed = [mix(color, BLACK, share) for share in np.linspace(0.95, 0, 96)]
    mixed += [mix(color, WHITE, share) for share in np.linspace(0.01, 0.95, 95)]
    lightness = to_lab(mixed)[:, 0]
    first = float(to_lab(color)[0])
    wanted = [first + sign * _STEP * k for k in range(_COUNT) for sign in ((1, -1) if k else (1,))]
    wanted = [value for value in wanted if _DARKEST <= value <= _LIGHTEST][:_COUNT]
    return np.array([mixed[int(np.abs(lightness - value).argmin())] for value in wanted], dtype=np.uint8)


def _touching(index: NDArray[np.integer], count: int) -> NDArray[np.bool_]:
    """Which segments touch: n×n bool, symmetric."""
    touching = np.zeros((count + 1, count + 1), dtype=bool)
    for reach in _REACH:
        for first, second in ((index[:-reach], index[reach:]), (index[:, :-reach], index[:, reach:])):
            differ = first != second
            touching[first[differ], second[differ]] = True
    touching |= touching.T
    return touching[1:, 1:]
