"""Fonts, for any script that the machine has one of."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from PIL import ImageFont

__all__ = ["font_for", "readable", "shortened", "text_width"]

# The first that has all the letters of a text is taken. Names as the systems know them: Linux, macOS, Windows.
_WIDE_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "NotoSansArabic-Regular.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "wqy-zenhei.ttc", "Arial Unicode.ttf", "Hiragino Sans GB.ttc", "arial.ttf"),
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttf", "PingFang.ttc", "AppleSDGothicNeo.ttc"),
    *("NotoSansCJKsc-Regular.otf", "SourceHanSansSC-Regular.otf", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf"),
)
_TRIED = 16  # size at which letters are looked for
_NO_LETTER = "\U000fffff"  # of the private use area: every font shows its sign for a missing letter


def font_for(text: str, size: int) -> Any:
    """A font of `size` pixels that has the letters of `text`, where there is one.

    ASCII is written with Pillow's own font, so that pictures are the same on any machine; it has little else, so
    other names are written with one of the system's fonts.
    """
    if text.isascii():
        return _load("", size)
    fonts = [font for name in _WIDE_FONTS if (font := _load(name, size)) is not None]
    return min((*fonts, _load("", size)), key=lambda font: _missing(font, text))


def text_width(text: str, size: int) -> int:
    """Width in pixels of `text` at `size`."""
    return int(-(-font_for(text, size).getlength(text) // 1))


@lru_cache(maxsize=4096)
def readable(text: str) -> str:
    """`text`, if a font here has all its letters; or else the text in Latin letters, "Mao" for 猫, as drawn it would be
    boxes. Of a text without such letters the code points."""
    if text.isascii() or not _missing(font_for(text, _TRIED), text):
        return text
    from anyascii import anyascii

    return anyascii(text).strip() or " ".join(f"U+{ord(letter):04X}" for letter in text)


def shortened(text: str, size: int, width: int) -> str:
    """`readable` of `text`, or as much of its beginning as fits in `width` pixels with three dots after it; "" where
    none does."""
    text = readable(text)
    if text_width(text, size) <= width:
        return text
    fitting, too_long = 0, len(text)
    while too_long - fitting > 1:
        middle = (fitting + too_long) // 2
        fits = text_width(f"{text[:middle].rstrip()}...", size) <= width
        fitting, too_long = (middle, too_long) if fits else (fitting, middle)
    return f"{text[:fitting].rstrip()}..." if fitting else ""


@lru_cache(maxsize=256)
def _load(name: str, size: int) -> Any:
    if not name:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _missing(font: Any, text: str) -> int:
    nothing = bytes(font.getmask(_NO_LETTER))
    return sum(bytes(font.getmask(letter)) == nothing for letter in set(text) if not letter.isspace())
