"""Outlines and surface patterns of the miniature world's things.

Outlines are lists of closed contours, N×2 float arrays of (x, y) around the origin, filled by the even-odd
rule. Patterns map local coordinates in pixels to the weight in [0, 1] of a thing's second color.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

_SUPERSAMPLING = 4


def _arc(
    start: float, stop: float, radius: float = 1.0, center: tuple[float, float] = (0.0, 0.0), n: int = 40
):
    angle = np.linspace(start, stop, n)
    return np.stack([center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)], 1)


def _polar(radius: Callable[[np.ndarray], np.ndarray], n: int = 120) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    r = radius(angle)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], 1)


def _star(points: int = 5, inner: float = 0.42) -> np.ndarray:
    angle = np.pi * np.arange(2 * points) / points - np.pi / 2
    radius = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y + 1.5], 1) / 16


def _crescent() -> np.ndarray:
    # Outer arc of the unit circle and the inner arc of a circle moved right, both through the horns at ±55°.
    horn = np.deg2rad(55)
    center = 0.62
    inner = float(np.hypot(np.cos(horn) - center, np.sin(horn)))
    at = float(np.arctan2(np.sin(horn), np.cos(horn) - center))
    back = _arc(2 * np.pi - at, at, inner, (center, 0.0))
    return np.concatenate([_arc(horn, 2 * np.pi - horn), back]) + np.array([0.35, 0.0])


def _points(*xy: tuple[float, float]) -> np.ndarray:
    return np.array(xy, dtype=np.float64)


def _cross(arm: float = 0.36) -> np.ndarray:
    a = arm
    return _points(
        (-a, -1),
        (a, -1),
        (a, -a),
        (1, -a),
        (1, a),
        (a, a),
        (a, 1),
        (-a, 1),
        (-a, a),
        (-1, a),
        (-1, -a),
        (-a, -a),
    )


OUTLINES: dict[str, list[np.ndarray]] = {
    "circle": [_arc(0, 2 * np.pi, n=64)],
    "ring": [_arc(0, 2 * np.pi, n=64), _arc(0, 2 * np.pi, 0.52, n=48)],
    "square": [_points((-1, -1), (1, -1), (1, 1), (-1, 1))],
    "triangle": [_points((0, -1), (0.92, 0.62), (-0.92, 0.62))],
    "star": [_star()],
    "cross": [_cross()],
    "heart": [_heart()],
    "arrow": [
        _points((0, -1), (0.85, -0.05), (0.34, -0.05), (0.34, 1), (-0.34, 1), (-0.34, -0.05), (-0.85, -0.05))
    ],
    "crescent": [_crescent()],
    "flower": [_polar(lambda a: 0.72 + 0.28 * np.cos(6 * a))],
    "bar": [_points((-1, -0.24), (1, -0.24), (1, 0.24), (-1, 0.24))],
    "bolt": [
        _points((0.25, -1), (-0.62, 0.16), (-0.08, 0.16), (-0.3, 1), (0.62, -0.26), (0.08, -0.26), (0.55, -1))
    ],
    "gear": [_polar(lambda a: 0.82 + 0.18 * np.tanh(4 * np.cos(9 * a)), 180), _arc(0, 2 * np.pi, 0.3, n=32)],
    "drop": [np.concatenate([_arc(-0.2 * np.pi, 1.2 * np.pi, 0.68, (0, 0.3)), _points((0, -1.05))])],
    "elbow": [_points((-0.8, -0.8), (-0.2, -0.8), (-0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (-0.8, 0.8))],
}


def _area(contours: list[np.ndarray]) -> float:
    # The first contour is the outside, the others are holes in it.
    parts = [abs(cv2.contourArea(contour.astype(np.float32))) for contour in contours]
    return parts[0] - sum(parts[1:])


_AREAS = {name: _area(contours) for name, contours in OUTLINES.items()}
_EXTENTS = {name: float(np.hypot(*contours[0].T).max()) for name, contours in OUTLINES.items()}


@dataclass(frozen=True)
class Stamp:
    """A drawn silhouette: `coverage` h×w float32 in [0, 1] whose top left pixel lies at (`x0`, `y0`) of the
    image, with local coordinates `u`, `v` (h×w float32, pixels from the center, turned with the thing)."""

    coverage: np.ndarray
    u: np.ndarray
    v: np.ndarray
    x0: int
    y0: int


def draw_outline(
    shape: str, *, area: float, center: tuple[float, float], angle: float, stretch: float, max_extent: float
) -> Stamp:
    """Draws a silhouette with anti-aliased borders.

    Args:
        shape: a key of `OUTLINES`.
        area: wanted area in pixels; thin shapes stay below it where they would reach beyond `max_extent`.
        center: (x, y) in pixels.
        angle: radians, clockwise on screen.
        stretch: factor of the x axis before turning; y gets its inverse.
        max_extent: largest distance in pixels from the center to the outline, before stretching.
    """
    scale = min(float(np.sqrt(area / _AREAS[shape])), max_extent / _EXTENTS[shape])
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([stretch * scale, scale / stretch])
    contours = [contour @ linear.T + center for contour in OUTLINES[shape]]
    x0, y0 = (np.floor(contours[0].min(0)) - 1).astype(int)
    x1, y1 = (np.ceil(contours[0].max(0)) + 2).astype(int)
    width, height = int(x1 - x0), int(y1 - y0)
    n = _SUPERSAMPLING
    canvas = np.zeros((height * n, width * n), np.uint8)
    fixed = [np.round(((c - (x0, y0)) * n - 0.5) * 16).astype(np.int32) for c in contours]
    cv2.fillPoly(canvas, fixed, 255, lineType=cv2.LINE_8, shift=4)
    coverage = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    x = np.arange(x0, x1, dtype=np.float32)[None] + np.float32(0.5 - center[0])
    y = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5 - center[1])
    cos32, sin32 = np.float32(cos), np.float32(sin)
    return Stamp(coverage, x * cos32 + y * sin32, y * cos32 - x * sin32, int(x0), int(y0))


def _soft(value: np.ndarray, sharpness: float) -> np.ndarray:
    return np.clip(0.5 + sharpness * value, 0, 1)


def _turned(stamp: Stamp, rng: np.random.Generator, period: float) -> tuple[np.ndarray, np.ndarray]:
    # The pattern has its own direction and phase on the thing.
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    k = np.float32(2 * np.pi / period)
    phase = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    return k * (stamp.u * cos + stamp.v * sin) + phase[0], k * (stamp.v * cos - stamp.u * sin) + phase[1]


def _plain(stamp: Stamp, rng: np.random.Generator, period: float) -> np.ndarray:
    return np.zeros_like(stamp.coverage)


def _striped(stamp: Stamp, rng: np.random.Generator, period: float) -> np.ndarray:
    u, _ = _turned(stamp, rng, period)
    return _soft(np.sin(u), 1.5)


def _dotted(stamp: Stamp, rng: np.random.Generator, period: float) -> np.ndarray:
    u, v = _turned(stamp, rng, period * 1.05)
    return _soft(np.cos(u) + np.cos(v) - 0.55, 1.5)


def _checkered(stamp: Stamp, rng: np.random.Generator, period: float) -> np.ndarray:
    u, v = _turned(stamp, rng, period * 1.35)
    return _soft(np.sin(u) * np.sin(v), 3.0)


def _gridded(stamp: Stamp, rng: np.random.Generator, period: float) -> np.ndarray:
    u, v = _turned(stamp, rng, period * 1.05)
    return _soft(np.maximum(np.cos(u), np.cos(v)) - 0.72, 3.0)


def _mottled(stamp: Stamp, rng: np.random.Generator, period: float) -> np.ndarray:
    height, width = stamp.coverage.shape
    cells = (max(2, round(width / period * 1.6)), max(2, round(height / period * 1.6)))
    noise = rng.standard_normal((cells[1], cells[0])).astype(np.float32)
    return _soft(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), 2.0)


def _framed(stamp: Stamp, rng: np.random.Generator, period: float) -> np.ndarray:
    inside = (stamp.coverage > 0.5).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    return _soft(0.42 * period - distance, 0.8)


def _halved(stamp: Stamp, rng: np.random.Generator, period: float) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return _soft(stamp.u * np.float32(np.cos(angle)) + stamp.v * np.float32(np.sin(angle)), 0.8)


PATTERNS: dict[str, Callable[[Stamp, np.random.Generator, float], np.ndarray]] = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "gridded": _gridded,
    "mottled": _mottled,
    "framed": _framed,
    "halved": _halved,
}
