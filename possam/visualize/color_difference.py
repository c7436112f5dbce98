"""Differences of colors, to normal vision and with the three dichromatic color-vision deficiencies.

Colors are sRGB in [0, 255]; Lab is CIE L*a*b* for the white D65.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["DEFICIENCIES", "ciede2000", "seen_with", "smallest_difference", "to_lab"]

DEFICIENCIES = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""Matrices on linear RGB that simulate protanopia, deuteranopia and tritanopia (severity 1.0; Machado, Oliveira and
Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009)."""

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)  # linear sRGB to CIE XYZ (IEC 61966-2-1)
_DEFICIENT = 1.5  # a difference under a deficiency counts this much, since dichromats tell fewer colors apart


def seen_with(colors: ArrayLike) -> NDArray[np.float64]:
    """What ...×3 sRGB colors are to four visions, as Lab: 4×...×3, normal vision first, then `DEFICIENCIES`."""
    linear = _linear(np.asarray(colors, dtype=np.float64) / 255)
    simulated = [np.clip(linear @ np.array(matrix).T, 0, 1) for matrix in DEFICIENCIES.values()]
    return np.stack([_lab(each) for each in (linear, *simulated)])


def smallest_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smaller of ΔE to normal vision and 1.5 times the smallest ΔE under a deficiency, of colors as `seen_with`
    gives them, 4×...×3 each: a value of 12 says at least ΔE 12, and 8 under each deficiency."""
    differences = ciede2000(a, b)
    return np.minimum(differences[0], _DEFICIENT * differences[1:].min(axis=0))


def to_lab(colors: ArrayLike) -> NDArray[np.float64]:
    """...×3 sRGB colors as Lab."""
    return _lab(_linear(np.asarray(colors, dtype=np.float64) / 255))


def ciede2000(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """The color difference CIEDE2000 of Lab colors, ...×3 each; about 1 can just be seen side by side.

    Numbers and names are those of Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula: implementation notes",
    2005.
    """
    (lightness_1, a_1, b_1), (lightness_2, a_2, b_2) = (np.moveaxis(np.asarray(x, np.float64), -1, 0) for x in (a, b))
    g = 0.5 * (1 - _seventh((np.hypot(a_1, b_1) + np.hypot(a_2, b_2)) / 2))
    a_1, a_2 = (1 + g) * a_1, (1 + g) * a_2
    chroma_1, chroma_2 = np.hypot(a_1, b_1), np.hypot(a_2, b_2)
    hue_1, hue_2 = np.degrees(np.arctan2(b_1, a_1)) % 360, np.degrees(np.arctan2(b_2, a_2)) % 360
    gray = chroma_1 * chroma_2 == 0
    turn = np.where(gray, 0, (hue_2 - hue_1 + 180) % 360 - 180)
    d_lightness, d_chroma = lightness_2 - lightness_1, chroma_2 - chroma_1
    d_hue = 2 * np.sqrt(chroma_1 * chroma_2) * np.sin(np.radians(turn / 2))
    lightness, chroma = (lightness_1 + lightness_2) / 2, (chroma_1 + chroma_2) / 2
    hue = np.where(gray, hue_1 + hue_2, (hue_1 + turn / 2) % 360)
    t = (
        1
        - 0.17 * np.cos(np.radians(hue - 30))
        + 0.24 * np.cos(np.radians(2 * hue))
        + 0.32 * np.cos(np.radians(3 * hue + 6))
        - 0.20 * np.cos(np.radians(4 * hue - 63))
    )
    s_lightness = 1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2)
    s_chroma, s_hue = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    rotation = -2 * _seventh(chroma) * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    terms = (d_lightness / s_lightness, d_chroma / s_chroma, d_hue / s_hue)
    total = sum(term**2 for term in terms) + rotation * terms[1] * terms[2]
    return np.asarray(np.sqrt(np.maximum(total, 0)))


def _seventh(chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(chroma**7 / (chroma**7 + 25.0**7)))


def _linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = np.moveaxis(_lab_curve(linear @ _TO_XYZ.T / _TO_XYZ.sum(axis=1)), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _lab_curve(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    edge = 6 / 29
    return np.where(ratio > edge**3, np.cbrt(ratio), ratio / (3 * edge**2) + 4 / 29)
