"""Parsing of class names: invisible characters, separators, and the commas that belong to a name."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["clean_name", "is_visible", "separator_positions", "split_names"]

_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols without a glyph
_JOINERS = "\u200c\u200d"  # invisible, but shape the letters of some scripts and join emoji
# Between letters of Latin, Greek and Cyrillic joiners shape nothing; behind any letter or blank, nor do variation
# selectors, which choose among the glyphs of a symbol. The grapheme joiner only orders sorting.
_IDLE = re.compile(
    r"\u034f|(?<=[A-Za-z\u00c0-\u052f])[\u200c\u200d]+|(?<=[^\W\d_]|\s)[\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
)
_CLOSING = {"(": ")", "[": "]", "{": "}", "（": "）", '"': '"', "“": "”"}
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’"))
_NUMBER = re.compile(r"\d+(?:,\d+)+")


def clean_name(text: str) -> str:
    """Return a name in Unicode's composed form (NFC), without invisible characters, with single blanks.

    Byte-order marks, zero-width spaces, soft hyphens, marks of direction and control characters are removed, and
    joiners and variation selectors where they change no glyph: they stay in emoji and in scripts whose letters join. A
    clean name is returned unchanged.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(" " if char in _BLANKS else char for char in text if not _is_hidden(char))
        text = unicodedata.normalize("NFC", _IDLE.sub("", text))
    return " ".join(text.split()).strip(_JOINERS + " ")


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in ("Cf", "Cc") and not char.isspace() and char not in _JOINERS


def is_visible(name: str) -> bool:
    """Whether a name cleaned by `clean_name` has a character that can be seen: not only marks on other characters."""
    return any(unicodedata.category(char)[0] not in "MZ" for char in name)


def separator_positions(text: str, separators: str) -> list[int]:
    """Return the positions of separators in a line, outside of brackets, double quotes and numbers.

    Brackets and quotes that have no partner are ordinary characters. A comma belongs to a number as in "10,000 yen
    note" and "1,5 liter bottle", but not in lists such as "0,1,2" or "0,1".
    """
    nested = [0] * (len(text) + 1)  # by how much the depth changes at each position
    opened: list[tuple[int, str]] = []
    for position, char in enumerate(text):
        if opened and char == opened[-1][1]:
            nested[opened.pop()[0]] += 1
            nested[position] -= 1
        elif char in _CLOSING:
            opened.append((position, _CLOSING[char]))
    numbers = {
        match.start() + offset
        for match in _NUMBER.finditer(text)
        if _is_number(text, match)
        for offset, char in enumerate(match[0])
        if char == ","
    }
    depth, found = 0, []
    for position, char in enumerate(text):
        depth += nested[position]
        if char in separators and depth == 0 and position not in numbers:
            found.append(position)
    return found


def split_names(text: str, separators: str = ",") -> tuple[str, ...]:
    """Split a line into clean names at `separator_positions`; quotes around a whole name are removed.

    A name may come out empty, where two separators follow each other.
    """
    starts = [0, *(position + 1 for position in separator_positions(text, separators))]
    ends = [*(start - 1 for start in starts[1:]), len(text)]
    return tuple(_unquoted(clean_name(text[start:end])) for start, end in zip(starts, ends, strict=True))


def _is_number(text: str, match: re.Match[str]) -> bool:
    groups = match[0].split(",")
    if all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3:
        return True
    start, end = match.span()
    while start and text[start - 1].isspace():
        start -= 1
    while end < len(text) and text[end].isspace():
        end += 1
    alone = (not start or text[start - 1] in ",|") and (end == len(text) or text[end] in ",|:")
    return len(groups) == 2 and not alone


def _unquoted(name: str) -> str:
    for first, last in _QUOTES:
        inner = name[1:-1]
        if len(name) > 2 and name[0] == first and name[-1] == last and first not in inner and last not in inner:
            return inner.strip()
    return name
