"""Parse the text of the demo's page: words, or a tree of names in JSON."""

from __future__ import annotations

from pathlib import Path

from possam.utils.files import read_text
from possam.vocabulary import Hierarchy, Vocabulary
from possam.vocabulary.words import read_line, split_words

__all__ = ["MAX_LETTERS", "read_tree_file", "read_typed", "read_words"]

MAX_LETTERS = 100_000
"""Longest text of the field for words."""
_MAX_NAMES = 5000  # of a visitor: a large CLIP reads them in minutes, while others wait


def read_typed(text: str, *, stop_below: float = 0.0) -> Vocabulary | Hierarchy:
    """Make a vocabulary of the page's text, or a tree of names if the text begins with {.

    No file is opened or looked for: who types here need not be who owns the machine.

    Args:
        text: words as `possam.vocabulary.words.read_line` takes them, or JSON as `Hierarchy.from_json`.
        stop_below: of a tree, see `Hierarchy`.

    Raises:
        ValueError: there is no word, one of them cannot be used, there are more than 5,000, or the tree is none.
    """
    if not text.lstrip().startswith("{"):
        return read_words(text)
    tree = Hierarchy.from_json(text, stop_below=stop_below)
    _check_count(tree.vocabulary)
    return tree


def read_words(text: str) -> Vocabulary:
    """As `read_typed`, where a tree of names cannot be used."""
    if text.lstrip().startswith("{"):
        raise ValueError("A tree of names is for whole pictures, but here a list is needed, such as “cat, dog, grass”.")
    if not split_words(text):
        raise ValueError('There is no word to look for: type some, such as "cat, dog, grass".')
    vocabulary = read_line(text, files=False)
    _check_count(vocabulary)
    return vocabulary


def read_tree_file(path: str | Path) -> str:
    """The text of a visitor's JSON file, for the field in which words are typed, if it is a tree of names.

    Raises:
        ValueError: as `Hierarchy.from_file`; or the file is too large for the field.
    """
    _check_count(Hierarchy.from_file(path).vocabulary)
    text = read_text(path)
    if len(text) > MAX_LETTERS:
        raise ValueError(f"{path} has {len(text)} letters, but this page takes at most {MAX_LETTERS}.")
    return text


def _check_count(vocabulary: Vocabulary) -> None:
    if len(vocabulary.names) > _MAX_NAMES:
        raise ValueError(f"There are {len(vocabulary.names)} names, but this page takes at most {_MAX_NAMES}.")
