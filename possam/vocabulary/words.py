"""Vocabularies from what people type: words, synonyms, marks for stuff, or the name of a list.

The grammar is the same on the command line, in the demo's page and in a string given to a Predictor. Classes are
separated by commas or lines, synonyms by "|"; ": stuff" or ": thing" says what a class is. A comma inside brackets,
double quotes or a number belongs to the name.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cache
from pathlib import Path

from possam.utils.messages import did_you_mean

from .names import clean_name, is_visible, separator_positions, split_names
from .tables import table_names
from .vocabulary import Category, Vocabulary, fold_name

__all__ = ["is_stuff_word", "read_entry", "read_line", "read_words", "split_words"]

# Tables of everyday words, which tell what is stuff where nobody says it.
_KNOWN = ("coco_panoptic", "ade20k_150")
_MARKS = {"thing": True, "stuff": False}
_FILE = re.compile(
    r"^(\.{0,2}|~\w*)/|\.(jsonl?|txt|csv|tsv|ya?ml|toml|ini|cfg|xlsx?|ods|docx?|odt|rtf|pdf|xml|md|html?|py|names|labels|"
    r"lst|pbtxt|npz|npy|pkl|pth?|onnx|ckpt|safetensors|zip|gz|png|jpe?g|gif|bmp|webp|tiff?|heic|mp4|mov|avi|mkv)$",
    re.IGNORECASE,
)
# A mark that is not behind the last colon of its class, or behind something else than a colon.
_MARKED = re.compile(r"([:：=–(\[]|\s-)\s*(stuff|thing)s?\s*[)\]]?$", re.IGNORECASE)
# Escapes and variables that a shell left alone, comments, names in quotes without a comma between them, tuples.
_SOURCE = re.compile(r'[\\`]|\$[A-Za-z_({]|\s#\s|"\s+"|^\(.*,.*\)$')
_OTHER_SEPARATORS = ";；，、،\t"
_LIST_MARK = re.compile(r"[\[{]|([-*•–#]|\d+[.)])\s")


def read_words(words: str | Path | Sequence[str]) -> Vocabulary:
    """Make a vocabulary of words.

    Args:
        words: a list with an entry a class — "dog"; "sofa, couch" or "sofa|couch" with synonyms; "lawn: stuff" or
            "logo: thing" to say what it is — or a string as `read_line` takes it, or the path of a vocabulary's JSON
            file. A class without a mark is stuff if COCO or ADE20K has its first name as stuff, and a thing otherwise.

    Raises:
        ValueError: no word, an empty or repeated one, an unknown mark, a file that is no vocabulary.
    """
    if isinstance(words, Path):
        if words.suffix.casefold() == ".json":
            return Vocabulary.from_file(words)
        if str(words) in table_names():
            return Vocabulary.load(words)
        raise ValueError(
            f"{str(words)!r} is neither a shipped list of classes ({', '.join(table_names())}) nor a .json file; "
            "give names as a list, or as text, one a line or separated by commas."
        )
    if isinstance(words, str):
        return read_line(words)
    if isinstance(words, bytes | Mapping | Set) or not isinstance(words, Iterable):
        raise ValueError(f'words must be text or a list, such as ["dog", "grass"], but are {words!r:.80}.')
    entries = [_entry(text, position) for position, text in enumerate(words)]
    if not entries:
        raise ValueError('there is no word to look for; give at least one, such as ["dog", "grass"].')
    categories = tuple(
        Category(names=names, isthing=isthing, dataset_id=position) for position, (names, isthing) in enumerate(entries)
    )
    return Vocabulary(name="words", categories=categories)


def read_line(text: str, *, files: bool = True) -> Vocabulary:
    """Make a vocabulary of text: words as `split_words` takes them, a shipped table's name, or a JSON file's path.

    Args:
        text: one line or several.
        files: whether a path may be given; otherwise no file is opened or looked for.

    Raises:
        ValueError: as `read_words`; and for the name of a table misspelt or of another file, which would make a strange
            word.
    """
    name, path = clean_name(text), os.path.expanduser(text.strip())
    if name in table_names():
        return Vocabulary.load(name)
    words = split_words(text)
    if files and name.casefold().endswith(".json") and (len(words) == 1 or os.path.exists(path)):
        return Vocabulary.from_file(path)
    if "_" in name and (meant := did_you_mean(name, table_names())):
        raise ValueError(f"{name!r} is no shipped list of classes.{meant}")
    if files and ("." in path or os.sep in path) and os.path.exists(path):
        raise ValueError(_no_name(name))
    if not words:
        raise ValueError('there is no word to look for; give at least one, such as "dog, grass".')
    return read_words(words)


def split_words(text: str) -> list[str]:
    """Split text into entries of `read_words`: "dog, sofa|couch, lawn: stuff", or one a line.

    Lines without a word and commas at the ends of a line count for nothing.
    """
    entries = []
    for line in text.splitlines():
        positions = separator_positions(line, ",")
        starts, ends = [0, *(position + 1 for position in positions)], [*positions, len(line)]
        parts = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        filled = [number for number, part in enumerate(parts) if clean_name(part)]
        entries += parts[filled[0] : filled[-1] + 1] if filled else []
    return entries


def _entry(text: object, position: int) -> tuple[tuple[str, ...], bool]:
    names, mark = read_entry(text, position)
    return names, not is_stuff_word(names[0]) if mark is None else mark


def is_stuff_word(name: str) -> bool:
    """Whether COCO or ADE20K has a name as stuff, and neither as a thing."""
    return fold_name(name) in _stuff_names()


def read_entry(text: object, position: int) -> tuple[tuple[str, ...], bool | None]:
    """Split an entry of `read_words` into its names and its mark: True for a thing, False for stuff, None without one.

    Args:
        position: of the entry, counted from 0, for messages.

    Raises:
        ValueError: an empty name, an unknown mark, or what is no name of a class.
    """
    if not isinstance(text, str):
        raise ValueError(f"word number {position + 1} must be a string, but is {text!r}.")
    colons = separator_positions(text, ":")
    words, mark = (text[: colons[-1]], clean_name(text[colons[-1] + 1 :]).casefold()) if colons else (text, None)
    if mark is not None and mark not in _MARKS:
        raise ValueError(f"{text!r} has the mark {mark!r} after its colon, but marks are 'thing' and 'stuff'.")
    names = split_names(words, ",|")
    if not all(is_visible(name) for name in names):
        raise ValueError(f"word number {position + 1} is empty in {text!r}; remove it, or a comma too many.")
    for name in names:
        _check_name(name, text)
    lines = words.strip().splitlines()
    if len(lines) > 1 or _LIST_MARK.match(names[0]) or separator_positions(lines[0], _OTHER_SEPARATORS):
        raise ValueError(
            f"{text!r:.200} is no name of a class: write names one a line or separated by commas, synonyms separated "
            "by |, and no bullets, numbers or brackets of a list."
        )
    return names, None if mark is None else _MARKS[mark]


def _check_name(name: str, text: str) -> None:
    """ValueError for what is hardly the name of a class: a file, a shipped table, a mark in the wrong place, source
    code, or punctuation; `text` is the whole entry."""
    if _FILE.search(name):
        raise ValueError(_no_name(name))
    if _MARKED.search(name):
        raise ValueError(
            f"{text!r:.200} has a mark in the name {name!r:.80}: write one mark a class, behind a colon at its end, "
            'such as "sofa|couch: thing".'
        )
    if _SOURCE.search(name) or not any(_has_meaning(char) for char in name):
        raise ValueError(
            f"{name!r:.80} is no name of a class: write plain words, one a line or separated by commas, without "
            "escapes, variables and comments."
        )
    table = re.sub(r"\W+", "_", name.casefold())
    if table in _tables():
        raise ValueError(f"{name!r} is no word: for the shipped list of classes give {table!r} alone, as a string.")


def _has_meaning(char: str) -> bool:
    """Whether a character is a letter, a digit or a picture such as an emoji."""
    return unicodedata.category(char)[0] in "LN" or unicodedata.category(char) == "So"


def _no_name(file: str) -> str:
    return (
        f"{file!r} is the name of a file, not of a class: give the names that are in it, one a line or separated by "
        'commas, as "$(cat names.txt)" does in a shell. The only file that can be given is a vocabulary\'s .json file, '
        "alone, on the command line or to a Predictor."
    )


@cache
def _tables() -> frozenset[str]:
    return frozenset(table_names())


@cache
def _stuff_names() -> frozenset[str]:
    tables = [Vocabulary.load(name) for name in _KNOWN]
    names = {
        (fold_name(name), category.isthing)
        for table in tables
        for category in table.categories
        for name in category.names
    }
    return frozenset(name for name, isthing in names if not isthing and (name, True) not in names)
