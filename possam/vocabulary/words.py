"""Vocabularies from what people type: words, synonyms, marks for stuff, or the name of a list."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from possam.messages import did_you_mean

from .tables import table_names
from .vocabulary import Category, Vocabulary, fold_name

__all__ = ["read_line", "read_words", "split_words"]

# Tables of everyday words, which tell what is stuff where nobody says it.
_KNOWN = ("coco_panoptic", "ade20k_150")
_MARKS = {"thing": True, "stuff": False}


def read_words(words: str | Path | Sequence[str]) -> Vocabulary:
    """Make a vocabulary of words.

    Args:
        words: a list with an entry a class — "dog"; "sofa, couch" with synonyms; "lawn: stuff" or "logo: thing" to say
            what it is — or the name of a shipped table ("ade20k_150"), or the path of a vocabulary's JSON file. A class
            without a mark is stuff if COCO or ADE20K has its first name as stuff, and a thing otherwise.

    Raises:
        ValueError: no word, an empty or repeated one, an unknown mark, a string that is no table and no JSON file.
    """
    if isinstance(words, str | Path):
        if str(words) in table_names() or Path(words).suffix == ".json":
            return Vocabulary.load(words)
        raise ValueError(
            f"{str(words)!r} is neither a shipped list of classes ({', '.join(table_names())}) nor a .json file; "
            f"for words of your own give a list: {split_words(str(words))!r}."
        )
    entries = [_entry(text, position) for position, text in enumerate(words)]
    if not entries:
        raise ValueError('there is no word to look for; give at least one, such as ["dog", "grass"].')
    categories = tuple(
        Category(names=names, isthing=isthing, dataset_id=position) for position, (names, isthing) in enumerate(entries)
    )
    return Vocabulary(name="words", categories=categories)


def read_line(text: str) -> Vocabulary:
    """One line, as on a command line: words as `split_words` takes them, a shipped table's name, or a JSON's path.

    Raises:
        ValueError: as `read_words`; and for what looks like a table's name misspelt, which would make a strange word.
    """
    if "_" in text and text not in table_names() and (meant := did_you_mean(text, table_names())):
        raise ValueError(f"{text!r} is no shipped list of classes.{meant}")
    return read_words(text if text in table_names() or text.endswith(".json") else split_words(text))


def split_words(text: str) -> list[str]:
    """One line, as on a command line, to entries of `read_words`: "dog, sofa|couch, lawn: stuff"."""
    return [", ".join(part.strip() for part in entry.split("|")) for entry in text.split(",")]


def _entry(text: object, position: int) -> tuple[tuple[str, ...], bool]:
    if not isinstance(text, str):
        raise ValueError(f"word number {position + 1} must be a string, but is {text!r}.")
    words, colon, mark = text.rpartition(":")
    if colon and mark.strip().casefold() not in _MARKS:
        raise ValueError(f"{text!r} has the mark {mark.strip()!r} after its colon, but marks are 'thing' and 'stuff'.")
    names = tuple(name.strip() for name in (words if colon else text).split(","))
    if not all(names):
        raise ValueError(f"word number {position + 1} is empty in {text!r}; remove it, or a comma too many.")
    isthing = _MARKS[mark.strip().casefold()] if colon else fold_name(names[0]) not in _stuff_names()
    return names, isthing


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
