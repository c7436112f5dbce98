"""Surfaces of the miniature world's stuff: every painter returns an S×S×3 float32 image, RGB in [0, 255].

Structure tells textures apart; colors only hint, because their ranges are wide and overlap.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

Painter = Callable[[np.random.Generator, int], np.ndarray]


def _noise(rng: np.random.Generator, size: int, cells_x: int, cells_y: int) -> np.ndarray:
    """Smooth noise, about N(0, 1) at its cells, S×S float32."""
    grid = rng.standard_normal((max(2, cells_y), max(2, cells_x)), dtype=np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)


def hsv(
    rng: np.random.Generator, hue: tuple[float, float], sat: tuple[float, float], val: tuple[float, float]
):
    """A random color (3,) float32, RGB in [0, 255]; `hue` may run past 1 and wraps."""
    h, s, v = rng.uniform(*hue) % 1.0, rng.uniform(*sat), rng.uniform(*val)
    return np.array(colorsys.hsv_to_rgb(h, s, v), np.float32) * 255


def _mix(weight: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low + np.clip(weight, 0, 1)[..., None] * (high - low)


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    return x, y


def _grass(rng: np.random.Generator, size: int) -> np.ndarray:
    # Short upright blades: noise much finer across than along.
    blades = 0.7 * _noise(rng, size, size // 2, size // 9) + 0.4 * _noise(rng, size, size // 3, size // 5)
    base = hsv(rng, (0.22, 0.40), (0.45, 0.8), (0.45, 0.75))
    return _mix(0.5 + 0.32 * blades, 0.55 * base, np.minimum(1.25 * base, 255))


def _water(rng: np.random.Generator, size: int) -> np.ndarray:
    # Long horizontal ripples that bend slowly.
    x, y = _grid(size)
    bend = 5 * _noise(rng, size, 5, 8)
    k = 2 * np.pi / rng.uniform(8, 12)
    ripples = np.sin(k * y + bend * 0.5 + rng.uniform(0, 6)) + 0.4 * _noise(rng, size, size // 16, size // 3)
    base = hsv(rng, (0.48, 0.66), (0.45, 0.85), (0.45, 0.8))
    return _mix(0.5 + 0.3 * ripples, 0.7 * base, np.minimum(1.2 * base + 20, 255))


def _sand(rng: np.random.Generator, size: int) -> np.ndarray:
    # Fine even grain on faint broad dunes.
    grain = rng.standard_normal((size, size), dtype=np.float32)
    base = hsv(rng, (0.07, 0.16), (0.25, 0.55), (0.7, 0.92))
    return base * (1 + 0.07 * grain + 0.05 * _noise(rng, size, 4, 4))[..., None]


def _brick(rng: np.random.Generator, size: int) -> np.ndarray:
    x, y = _grid(size)
    height = rng.uniform(7, 10)
    width = height * 2.1
    offset = rng.uniform(0, height)
    row = np.floor((y + offset) / height)
    across = x + 0.5 * width * (row % 2) + offset
    column = np.floor(across / width)
    mortar = ((y + offset) - row * height < 1.6) | (across - column * width < 1.6)
    shade = 0.9 + 0.22 * ((np.sin(row * 12.9898 + column * 78.233 + offset) * 43758.5453) % 1.0)
    base = hsv(rng, (0.97, 1.08), (0.35, 0.75), (0.45, 0.75))
    gray = hsv(rng, (0.0, 0.2), (0.0, 0.12), (0.65, 0.85))
    return np.where(mortar[..., None], gray, base * shade[..., None]).astype(np.float32)


def _sky(rng: np.random.Generator, size: int) -> np.ndarray:
    # A smooth vertical gradient with a few soft clouds.
    _, y = _grid(size)
    base = hsv(rng, (0.52, 0.66), (0.25, 0.6), (0.75, 0.98))
    clouds = np.clip(0.5 * _noise(rng, size, 3, 5) - 0.25, 0, 0.8)
    return _mix(clouds, base * (0.88 + 0.2 * y / size)[..., None], np.full(3, 245, np.float32))


def _wood(rng: np.random.Generator, size: int) -> np.ndarray:
    # Upright planks with dark joints and grain along them.
    x, _ = _grid(size)
    width = rng.uniform(14, 22)
    offset = rng.uniform(0, width)
    plank = np.floor((x + offset) / width)
    joint = (x + offset) - plank * width < 1.5
    shade = 0.85 + 0.3 * ((np.sin(plank * 91.7 + offset) * 4375.85) % 1.0)
    grain = np.sin(0.9 * x + 2.2 * _noise(rng, size, 6, 4) + plank * 3)
    base = hsv(rng, (0.04, 0.11), (0.4, 0.75), (0.45, 0.75))
    wood = base * (shade * (1 + 0.12 * grain))[..., None]
    return np.where(joint[..., None], 0.4 * base, wood).astype(np.float32)


def _cells(rng: np.random.Generator, size: int, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Rounded cells around jittered points: distance to the own point and the cell's number, both S×S."""
    n = int(np.ceil(size / spacing)) + 1
    at = (np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1) + rng.uniform(0.1, 0.9, (n, n, 2))) * spacing
    at = np.clip(at.reshape(-1, 2), 0, size - 1).astype(int)
    free = np.ones((size, size), np.uint8)
    free[at[:, 1], at[:, 0]] = 0
    return cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)


def _gravel(rng: np.random.Generator, size: int) -> np.ndarray:
    # Separate round pebbles, each of its own gray, lit in the middle.
    spacing = rng.uniform(7, 9)
    distance, label = _cells(rng, size, spacing)
    shade = rng.uniform(0.55, 1.15, int(label.max()) + 1).astype(np.float32)[label]
    base = hsv(rng, (0.05, 0.7), (0.02, 0.15), (0.5, 0.8))
    relief = np.clip(1.15 - (distance / (0.62 * spacing)) ** 2, 0.15, 1.1)
    return base * (shade * relief)[..., None]


def _snow(rng: np.random.Generator, size: int) -> np.ndarray:
    # Near white, soft drifts, sparse blue-gray specks.
    base = hsv(rng, (0.5, 0.7), (0.0, 0.08), (0.9, 1.0))
    drifts = 1 + 0.035 * _noise(rng, size, 5, 7)
    specks = rng.random((size, size), dtype=np.float32) > 0.975
    return base * np.where(specks, 0.75, drifts)[..., None]


def _tile(rng: np.random.Generator, size: int) -> np.ndarray:
    # A straight lattice of equal squares with bright or dark joints.
    x, y = _grid(size)
    pitch = rng.uniform(10, 14)
    dx, dy = rng.uniform(0, pitch, 2)
    column, row = np.floor((x + dx) / pitch), np.floor((y + dy) / pitch)
    joint = ((x + dx) - column * pitch < 1.5) | ((y + dy) - row * pitch < 1.5)
    shade = 0.95 + 0.1 * ((np.sin(row * 12.99 + column * 78.23) * 437.58) % 1.0)
    base = hsv(rng, (0, 1), (0.08, 0.45), (0.6, 0.9))
    grout = base * 0.45 if rng.random() < 0.6 else np.minimum(base * 1.35 + 20, 255)
    return np.where(joint[..., None], grout, base * shade[..., None]).astype(np.float32)


def _foliage(rng: np.random.Generator, size: int) -> np.ndarray:
    # Overlapping leaves: cells of varied green with dark gaps.
    spacing = rng.uniform(10, 13)
    distance, label = _cells(rng, size, spacing)
    shade = rng.uniform(0.5, 1.2, int(label.max()) + 1).astype(np.float32)[label]
    x, y = _grid(size)
    tilt = rng.uniform(-1, 1, int(label.max()) + 1).astype(np.float32)[label]
    vein = 0.12 * np.sin(1.1 * (x * tilt + y))
    base = hsv(rng, (0.20, 0.42), (0.45, 0.85), (0.35, 0.65))
    return base * (shade * (1 - 0.35 * (distance / spacing)) + vein)[..., None]


def _lava(rng: np.random.Generator, size: int) -> np.ndarray:
    # Glowing cracks between dark plates.
    ridge = np.abs(_noise(rng, size, 9, 9)) + 0.25 * np.abs(_noise(rng, size, 24, 24))
    glow = hsv(rng, (0.0, 0.11), (0.8, 1.0), (0.85, 1.0))
    return _mix(1.3 - 3.2 * ridge, glow * 0.16 + 8, glow)


def _carpet(rng: np.random.Generator, size: int) -> np.ndarray:
    # A diagonal twill.
    x, y = _grid(size)
    k = 2 * np.pi / rng.uniform(4.5, 6)
    twill = np.sin(k * (x + y)) * np.sin(0.5 * k * (x - y))
    base = hsv(rng, (0, 1), (0.25, 0.7), (0.4, 0.75))
    return base * (1 + 0.28 * twill)[..., None]


def _asphalt(rng: np.random.Generator, size: int) -> np.ndarray:
    # Dark, with coarse light grains.
    grain = rng.random((size, size), dtype=np.float32)
    base = hsv(rng, (0.55, 0.75), (0.0, 0.12), (0.22, 0.38))
    return base * (0.9 + 0.9 * (grain > 0.9) + 0.25 * grain + 0.06 * _noise(rng, size, 5, 5))[..., None]


PAINTERS: dict[str, Painter] = {
    "grass": _grass,
    "water": _water,
    "sand": _sand,
    "brick": _brick,
    "sky": _sky,
    "wood": _wood,
    "gravel": _gravel,
    "snow": _snow,
    "tile": _tile,
    "foliage": _foliage,
    "lava": _lava,
    "carpet": _carpet,
    "asphalt": _asphalt,
}
