"""Colours of classes, and the ink that can be read on them. Colours are RGB in [0, 255]."""

from __future__ import annotations

import hashlib

__all__ = ["BLACK", "RGB", "WHITE", "class_color", "contrast", "ink_on", "mix"]

RGB = tuple[int, int, int]

BLACK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)

# 26 colours that are far apart for the eye (by distance in CIE Lab, of middle lightness and saturation).
_PALETTE: tuple[RGB, ...] = (
    (240, 45, 30), (0, 240, 120), (0, 105, 255), (255, 210, 0), (45, 225, 255), (255, 30, 180), (75, 105, 30),
    (225, 180, 255), (225, 150, 105), (150, 60, 105), (210, 225, 135), (0, 105, 180), (0, 180, 135), (165, 225, 30),
    (150, 15, 180), (255, 75, 120), (255, 135, 0), (165, 135, 0), (30, 150, 0), (165, 60, 45), (255, 135, 255),
    (120, 75, 165), (255, 150, 180), (0, 180, 255), (135, 165, 30), (135, 90, 30),
)  # fmt: skip
# Any salt would do; with this one, names that often meet (the miniature world's stuff, COCO's sky, tree, grass,
# person …) get colours that are easy to tell apart.
_SALT = "20869"


def class_color(name: str) -> RGB:
    """The colour of a class: the same for the same name (case and spacing aside) in every picture."""
    digest = hashlib.sha256((_SALT + " ".join(name.casefold().split())).encode()).digest()
    return _PALETTE[int.from_bytes(digest[:4], "big") % len(_PALETTE)]


def contrast(a: RGB, b: RGB) -> float:
    """Contrast ratio of two colours, from 1 to 21 (WCAG 2.2, "contrast ratio"); text is readable from 4.5 on."""
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
