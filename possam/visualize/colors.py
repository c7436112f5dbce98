"""Colors of classes, and the ink that can be read on them. Colors are RGB in [0, 255]."""

from __future__ import annotations

import hashlib

__all__ = ["BLACK", "RGB", "WHITE", "class_color", "contrast", "ink_on", "mix"]

RGB = tuple[int, int, int]

BLACK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)

# 26 colors that are far apart for the eye (by distance in CIE Lab, of middle lightness and saturation), each with
# those of its lighter and darker shades that are far from all others, too.
_PALETTE: tuple[tuple[RGB, ...], ...] = (
    ((240, 45, 30), (248, 150, 142)), ((0, 240, 120), (128, 248, 188), (0, 144, 72)),
    ((0, 105, 255), (128, 180, 255), (0, 63, 153)), ((255, 210, 0),),
    ((45, 225, 255), (150, 240, 255), (27, 135, 153)), ((255, 30, 180), (255, 142, 218), (153, 18, 108)),
    ((75, 105, 30), (165, 180, 142)), ((225, 180, 255), (240, 218, 255), (135, 108, 153)),
    ((225, 150, 105), (240, 202, 180), (135, 90, 63)), ((150, 60, 105), (202, 158, 180)),
    ((210, 225, 135), (126, 135, 81)), ((0, 105, 180), (128, 180, 218), (0, 63, 108)),
    ((0, 180, 135), (128, 218, 195), (0, 108, 81)), ((165, 225, 30), (99, 135, 18)), ((150, 15, 180), (202, 135, 218)),
    ((255, 75, 120), (153, 45, 72)), ((255, 135, 0), (255, 195, 128), (153, 81, 0)),
    ((165, 135, 0), (210, 195, 128), (99, 81, 0)), ((30, 150, 0), (142, 202, 128), (18, 90, 0)),
    ((165, 60, 45), (210, 158, 150)), ((255, 135, 255), (153, 81, 153)), ((120, 75, 165), (188, 165, 210)),
    ((255, 150, 180), (255, 202, 218), (153, 90, 108)), ((0, 180, 255), (128, 218, 255), (0, 108, 153)),
    ((135, 165, 30),), ((135, 90, 30), (195, 172, 142)),
)  # fmt: skip
# Any salt would do; with this one, names that often meet (the miniature world's stuff, COCO's sky, tree, grass,
# person …) get colors that are easy to tell apart.
_SALT = "20869"
_SHADE = 24  # byte of the hash that decides on the shade


def class_color(name: str) -> RGB:
    """The color of a class: the same for the same name (case and spacing aside) in every picture."""
    digest = hashlib.sha256((_SALT + " ".join(name.casefold().split())).encode()).digest()
    shades = _PALETTE[int.from_bytes(digest[:4], "big") % len(_PALETTE)]
    return shades[digest[_SHADE] % len(shades)]


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
