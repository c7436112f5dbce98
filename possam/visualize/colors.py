"""Colors of classes, and the ink that can be read on them. Colors are RGB in [0, 255]."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from possam.visualize.color_difference import to_lab

__all__ = ["BLACK", "RGB", "WHITE", "class_color", "contrast", "ink_on", "mix"]

RGB = tuple[int, int, int]

BLACK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)

# Each color is the one farthest from all before it, by `smallest_difference`, of a lattice of steps of 15 without what
# is too dark, too light or too gray (L* 30…92, chroma over 20): the first n are a good palette of n. The least ΔE
# (CIEDE2000) of two, to normal vision and under the worst deficiency, is 20 and 13 of 12 colors, 10 and 6.8 of 32, 4.8
# and 3.1 of 133.
_PALETTE = """
0069ff f0d200 783c00 00f0ff f04b78 5a3c78 d2f0c3 967800 b496b4 3c694b ff9678 2da5ff 0000f0 5a9687 b45aa5 96a500
c30f4b 874b69 87c3a5 ffb4d2 e1e187 a50fb4 c3784b 5a4b2d a5b4e1 696900 876987 a587d2 00d287 008769 d200e1 e1b44b
c38796 5a5a87 ff5aff b45a3c 871e5a 96e1e1 7800a5 ff87d2 a50f2d b4a55a f05aa5 a57896 a56969 693c4b e1d2a5 a5ff5a
3cd2ff 7869c3 b4f0d2 789678 a54b5a 964ba5 4bb4c3 f0a5a5 780fff ff7800 0f5a0f e13c5a 9687b4 00f069 006969 5a782d
b49669 78d2c3 b40f69 5a0fc3 005ac3 4ba5a5 b45a78 b469d2 c3c396 f01e1e 87784b 872d96 784b3c f0a50f 875ae1 7878b4
f0d2ff d29696 f0874b 2d785a ffe1a5 d27887 87872d 96004b 4b7896 a52d87 3c965a 785a78 785a3c 003ce1 871e3c a5000f
2dc3c3 f078a5 4be1b4 b42dff c36987 d2001e 784b78 a5b478 ff96f0 b487f0 c34b87 a569ff 4bb44b e1f000 d2d25a e196c3
c39687 e169d2 699669 e12dc3 005a5a ffc3b4 2dff96 4b8778 5a5a2d a5f0e1 e1a5b4 962d5a 692d87 96c32d c3873c 5a875a
4b6996 a596e1 f04b00 96d2e1 964b4b d20f96 c3d287 782d69 c3b45a 0f4bc3 a55a69 f0c33c b43c1e 96965a b4a5d2 d2b487
960f1e c3963c d2692d 00b496 78783c 00c396 5a87c3 8796c3 965a78 f0c3f0 002dd2 e1e1b4 5a78a5 e1b4ff ff00a5 9678e1
e17878 870f78 694ba5 a55a2d f0a5d2 c35a4b c3c369 d2e14b 0f78b4 b4e1c3 c34bb4 b40f3c 87c3f0 d2a569 e1f078 873cd2
a5a5e1 69e1f0 78c3b4 a53c2d d287d2 87e196 876996 8769d2 9687e1 78964b 964b78 f096a5 96b4ff 5aa578 4b4b96 a58769
2df0c3 963c5a 693c87 9600c3 d296f0 4b96b4 96871e a51ef0 5a871e ffd278 c37896 3c7887 96b487 b42db4 96f0f0 b4783c
692dd2 3ca55a 4b87a5 2d3ca5 6978c3 ffc378 78e1d2 e10f5a e169b4 69c369 78a569 d23c2d 96c3e1 87ffa5 783c78 781eb4
5a2d96 6900f0 962da5 96c378 d296b4 ffc3d2 78d296 c35a69 1e6900 5a78e1 693ce1 f00096 7878f0 78ffc3 a52d1e f08796
d287a5 874bd2 f03ce1 d278ff 6900b4 b42d69 3cd2b4 c32d4b 5a784b 00a5c3 9678c3 c33c69 ff4b96 7887f0 2db400 e12d87
""".split()
_FINE = range(4, 256, 7)  # of the lattice that positions behind the palette take their colors from


def class_color(position: int) -> RGB:
    """The color of a class, by its position in the vocabulary: the same in every picture, and no other's of the first
    38,970."""
    if position < len(_PALETTE):
        red, green, blue = bytes.fromhex(_PALETTE[position])
        return red, green, blue
    more = _more_colors()
    red, green, blue = more[(position - len(_PALETTE)) % len(more)].tolist()
    return red, green, blue


@lru_cache(maxsize=1)
def _more_colors() -> NDArray[np.uint8]:
    """Colors that are not in the palette, of the same lightness and chroma, in a scattered order."""
    lattice = np.stack(np.meshgrid(_FINE, _FINE, _FINE), axis=-1).reshape(-1, 3).astype(np.uint8)
    lightness, *ab = np.moveaxis(to_lab(lattice), -1, 0)
    lattice = lattice[(lightness > 30) & (lightness < 92) & (np.hypot(*ab) > 20)]
    known = {bytes.fromhex(color) for color in _PALETTE}
    lattice = lattice[[color.tobytes() not in known for color in lattice]]
    # Multiples of the golden ratio's fraction of 2³² spread over the range (Fibonacci hashing).
    return lattice[np.argsort(np.arange(len(lattice), dtype=np.uint64) * np.uint64(2654435769) % np.uint64(1 << 32))]


def contrast(a: RGB, b: RGB) -> float:
    """Contrast ratio of two colors, from 1 to 21 (WCAG 2.2, "contrast ratio"); text is readable from 4.5 on."""
    darker, lighter = sorted((_luminance(a), _luminance(b)))
    return (lighter + 0.05) / (darker + 0.05)


def ink_on(paper: RGB) -> RGB:
    """Black or white, whichever stands out more; the contrast is √21 = 4.58 at the least."""
    return max((WHITE, BLACK), key=lambda ink: contrast(ink, paper))


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`share` in [0, 1] of `b` in `a`."""
    red, green, blue = (round((1 - share) * x + share * y) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _luminance(color: RGB) -> float:
    """Relative luminance in [0, 1] (WCAG 2.2)."""
    red, green, blue = (
        value / 12.92 if (value := channel / 255) <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for channel in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
