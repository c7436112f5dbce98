"""Draws scenes of the miniature world with exact panoptic ground truth.

A scene is made of two to four surfaces split by wavy borders and one to five things lying on them, some
behind others, under uneven light and camera noise. Which kinds may appear is the palette's choice alone.

Shape legend: S = side of the square image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from possam.data.miniature.lexicon import Kind, Palette, StuffKind, ThingKind
from possam.data.miniature.shapes import PATTERNS, Stamp, draw_outline
from possam.data.miniature.textures import PAINTERS, hsv

SIZE = 128
WORLD_VERSION = 1  # raise it when the same seed draws something else: prepared splits are then drawn anew
_AREA = (380.0, 1900.0)  # of a thing, before occlusion; objects under 256 px are what small models miss
_MAX_EXTENT = 34.0
_MIN_VISIBLE_SHARE = 0.6
_MIN_VISIBLE_AREA = 240
_MIN_STUFF_AREA = 500
_PLACEMENTS = 6


@dataclass(frozen=True)
class Segment:
    """One ground-truth segment: `id` in the scene's id map (from 1), visible `area` in pixels, and `bbox`
    (x, y, width, height) in pixels around the visible pixels."""

    id: int
    kind: Kind
    area: int
    bbox: tuple[int, int, int, int]

    @property
    def isthing(self) -> bool:
        return self.kind.isthing


@dataclass(frozen=True)
class Scene:
    """`image` S×S×3 uint8 RGB; `ids` S×S int32, every pixel the id of one of `segments`."""

    image: np.ndarray
    ids: np.ndarray
    segments: tuple[Segment, ...]

    def mask(self, segment: Segment) -> np.ndarray:
        """S×S bool: the visible pixels of a segment of this scene."""
        return self.ids == segment.id


def draw_scene(seed: int | Sequence[int], palette: Palette, *, size: int = SIZE) -> Scene:
    """Draws one scene; the same seed, palette and size always give the same scene.

    Args:
        seed: a non-negative integer or several (a split's number and a scene's number, say).
        palette: the kinds that may appear, each about equally often.
        size: side of the image in pixels. Things keep their size in pixels.

    Raises:
        ValueError: `size` is below 96 pixels, where several surfaces and things no longer fit.
    """
    if size < 96:
        raise ValueError(f"a miniature scene needs a size of at least 96 pixels, got {size}")
    rng = np.random.default_rng(seed)
    image, ids, kinds = _draw_stuff(rng, palette, size)
    number = int(rng.choice(5, p=(0.12, 0.2, 0.26, 0.24, 0.18))) + 1
    drawn: list[int] = []  # full silhouette area of every thing so far
    first = len(kinds) + 1
    for _ in range(number):
        kind = palette.things[rng.integers(len(palette.things))]
        area = _place_thing(rng, kind, image, ids, first, drawn)
        if area:
            drawn.append(area)
            kinds.append(kind)
    segments = tuple(_segment(ids, index + 1, kind) for index, kind in enumerate(kinds))
    return Scene(_expose(rng, image), ids, segments)


def crop(scene: Scene, segment: Segment, *, size: int, margin: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """A square view of one segment, at least its bounding box plus `margin` of the longer side all around.

    Returns:
        image size×size×3 uint8 RGB and mask size×size bool of the segment's visible pixels. What the square
        shows beyond the scene's border repeats the border in the image and is False in the mask.
    """
    x, y, width, height = segment.bbox
    side = max(8.0, max(width, height) * (1 + 2 * margin))
    scale = size / side
    matrix = np.array(
        [
            [scale, 0, size / 2 - 0.5 - scale * (x + width / 2 - 0.5)],
            [0, scale, size / 2 - 0.5 - scale * (y + height / 2 - 0.5)],
        ]
    )
    image = cv2.warpAffine(
        scene.image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inside = scene.mask(segment).astype(np.uint8)
    mask = cv2.warpAffine(
        inside, matrix, (size, size), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT
    )
    return image, mask.astype(bool)


def _draw_stuff(
    rng: np.random.Generator, palette: Palette, size: int
) -> tuple[np.ndarray, np.ndarray, list[Kind]]:
    """Surfaces side by side along a random direction: image float32, ids from 1, and their kinds."""
    number = min(int(rng.choice(3, p=(0.4, 0.4, 0.2))) + 2, len(palette.stuff))
    kinds: list[Kind] = [palette.stuff[i] for i in rng.choice(len(palette.stuff), number, replace=False)]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    angle = np.float32(rng.uniform(0, 2 * np.pi))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    # Equal shares of the image, moved a little; quantiles keep every surface large under any direction.
    cuts = (np.arange(1, number) + rng.uniform(-0.18, 0.18, number - 1)) / number
    ids = np.ones((size, size), np.int32)
    for level in np.quantile(along, cuts):
        frequency, phase, amplitude = rng.uniform(4, 14), rng.uniform(0, 6.3), rng.uniform(0.01, 0.05)
        wave = np.float32(amplitude) * np.sin(np.float32(frequency) * across + np.float32(phase))
        ids += (along + wave > level).astype(np.int32)
    image = np.empty((size, size, 3), np.float32)
    for index, kind in enumerate(kinds):
        assert isinstance(kind, StuffKind)
        region = ids == index + 1
        image[region] = PAINTERS[kind.texture](rng, size)[region]
    return image, ids, kinds


def _place_thing(
    rng: np.random.Generator,
    kind: ThingKind,
    image: np.ndarray,
    ids: np.ndarray,
    first: int,
    drawn: list[int],
) -> int:
    """Draws a thing where it hides nothing too much, as id `first + len(drawn)`. Returns its full area, or 0
    if no place was found."""
    size = ids.shape[0]
    for _ in range(_PLACEMENTS):
        area = float(np.exp(rng.uniform(*np.log(_AREA))))
        edge = 0.55 * np.sqrt(area)
        stamp = draw_outline(
            kind.shape,
            area=area,
            center=tuple(rng.uniform(edge, size - edge, 2)),
            angle=rng.uniform(0, 2 * np.pi),
            stretch=float(np.exp(rng.uniform(-0.12, 0.12))),
            max_extent=_MAX_EXTENT,
        )
        coverage, window = _inside(stamp, size)
        solid = coverage > 0.5
        visible = int(solid.sum())
        whole = int((stamp.coverage > 0.5).sum())
        if visible < max(_MIN_VISIBLE_AREA, _MIN_VISIBLE_SHARE * whole) or _hides(
            ids, window, solid, first, drawn
        ):
            continue
        pattern, pattern_window = _inside_like(
            PATTERNS[kind.attribute](stamp, rng, _period(whole)), stamp, size
        )
        assert pattern_window == window
        background = image[window][solid].mean(0)
        one, two = _colors(rng, background)
        surface = (one + pattern[..., None] * (two - one)) * _relief(rng, stamp, size)[..., None]
        image[window] += coverage[..., None] * (surface - image[window])
        ids[window][solid] = first + len(drawn)
        return whole
    return 0


def _inside(stamp: Stamp, size: int) -> tuple[np.ndarray, tuple[slice, slice]]:
    return _inside_like(stamp.coverage, stamp, size)


def _inside_like(values: np.ndarray, stamp: Stamp, size: int) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Cuts a stamp's array to the image and says where in the image it lies."""
    height, width = values.shape
    top, left = max(0, -stamp.y0), max(0, -stamp.x0)
    bottom, right = min(height, size - stamp.y0), min(width, size - stamp.x0)
    window = slice(stamp.y0 + top, stamp.y0 + bottom), slice(stamp.x0 + left, stamp.x0 + right)
    return values[top:bottom, left:right], window


def _hides(
    ids: np.ndarray, window: tuple[slice, slice], solid: np.ndarray, first: int, drawn: list[int]
) -> bool:
    """Whether covering `solid` would leave too little of any surface or of any thing drawn before."""
    before = np.bincount(ids.ravel(), minlength=first + len(drawn))
    after = before - np.bincount(ids[window][solid], minlength=first + len(drawn))
    if (after[1:first] < _MIN_STUFF_AREA).any():
        return True
    needed = np.maximum(_MIN_VISIBLE_AREA, _MIN_VISIBLE_SHARE * np.array(drawn))
    return bool((after[first:] < needed).any())


def _period(area: int) -> float:
    """Period of a pattern in pixels: several repeats on any thing, yet wide enough to survive 128 pixels."""
    return float(np.clip(0.24 * np.sqrt(area), 5.0, 8.5))


def _colors(rng: np.random.Generator, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two colors of a thing that stand out from the background and from each other."""
    best, best_gap = None, -1.0
    for _ in range(12):
        one, two = (hsv(rng, (0, 1), (0.25, 1.0), (0.2, 1.0)) for _ in range(2))
        # Either color alone must separate the thing from what lies behind it.
        gaps = (
            np.linalg.norm(one - background),
            np.linalg.norm(two - background),
            np.linalg.norm(one - two) * 0.8,
        )
        gap = float(min(gaps))
        if gap > best_gap:
            best, best_gap = (one, two), gap
        if gap > 95:
            break
    assert best is not None
    return best


def _relief(rng: np.random.Generator, stamp: Stamp, size: int) -> np.ndarray:
    """Light across a thing's surface, around 1, cut to the image."""
    angle = rng.uniform(0, 2 * np.pi)
    slope = stamp.u * np.float32(np.cos(angle)) + stamp.v * np.float32(np.sin(angle))
    reach = max(stamp.coverage.shape) / 2
    return _inside_like(1 + np.float32(0.12 / reach) * slope, stamp, size)[0]


def _expose(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Uneven light, a slightly soft lens now and then, and sensor noise: S×S×3 uint8."""
    size = image.shape[0]
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    dx, dy = rng.uniform(-0.16, 0.16, 2).astype(np.float32)
    light = np.float32(rng.uniform(0.82, 1.12)) * (1 + dx * ramp[None] + dy * ramp[:, None])
    tint = rng.uniform(0.93, 1.07, 3).astype(np.float32)
    lit = image * light[..., None] * tint
    if rng.random() < 0.3:
        lit = cv2.GaussianBlur(lit, (3, 3), float(rng.uniform(0.4, 0.7)))
    lit += rng.standard_normal(lit.shape, dtype=np.float32) * np.float32(rng.uniform(1.5, 6))
    return np.clip(lit + 0.5, 0, 255).astype(np.uint8)


def _segment(ids: np.ndarray, number: int, kind: Kind) -> Segment:
    mask = (ids == number).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    return Segment(number, kind, int(cv2.countNonZero(mask)), (x, y, width, height))
