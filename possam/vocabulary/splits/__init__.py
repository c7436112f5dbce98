"""Base and novel classes of the field's open-vocabulary splits, as explicit lists: ``<name>.json``.

An overlap (`possam.vocabulary.overlaps`) compares two tables; a split divides one, of which training sees a part.
Classes in neither list take no part.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

from possam.utils.files import read_json
from possam.utils.messages import did_you_mean, few
from possam.vocabulary.vocabulary import Vocabulary

__all__ = ["Split", "find_split", "split_names", "split_vocabulary"]

_FOLDER = Path(__file__).parent
_BASE = "_base"


@dataclass(frozen=True, kw_only=True)
class Split:
    """A division of a table's classes.

    Attributes:
        name: such as "coco_48_17".
        table: the shipped table that is divided.
        source: where the lists come from.
        base, novel: display names of the classes that training names, and of those that it does not.
    """

    name: str
    table: str
    source: str
    base: tuple[str, ...]
    novel: tuple[str, ...]

    def restrict(self, vocabulary: Vocabulary, *, base_only: bool = False) -> Vocabulary:
        """The split's classes of a vocabulary in its order, or the base classes alone, under the split's name.

        Raises:
            ValueError: the vocabulary lacks a class of the split.
        """
        kept = {*self.base, *(() if base_only else self.novel)}
        if missing := sorted(kept - set(vocabulary.display_names)):
            raise ValueError(f"the vocabulary {vocabulary.name!r} lacks classes of {self.name}: {few(missing)}.")
        categories = tuple(c for c in vocabulary.categories if c.names[0] in kept)
        return replace(vocabulary, name=self.name + _BASE * base_only, categories=categories)

    def is_base(self, vocabulary: Vocabulary) -> tuple[bool, ...]:
        """Whether each class of a vocabulary is a base class, by its display name."""
        base = set(self.base)
        return tuple(name in base for name in vocabulary.display_names)

    def is_novel(self, vocabulary: Vocabulary) -> tuple[bool, ...]:
        """Whether each class of a vocabulary is a novel class, by its display name."""
        novel = set(self.novel)
        return tuple(name in novel for name in vocabulary.display_names)


def split_vocabulary(name: str) -> Vocabulary | None:
    """The classes of a split of its shipped table: "coco_48_17", or "coco_48_17_base" for the base classes alone; None
    for any other name."""
    own, base = name.removesuffix(_BASE), name.endswith(_BASE)
    if own not in split_names():
        return None
    split = find_split(own)
    return split.restrict(Vocabulary.load(split.table), base_only=base)


def split_names() -> list[str]:
    """Names of the splits that ship with the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


@cache
def find_split(name: str) -> Split:
    """The split of this name. Raises ValueError where there is none, or its file is no split."""
    if name not in split_names():
        names = split_names()
        raise ValueError(f"unknown split {name!r}; the splits are {', '.join(names)}.{did_you_mean(name, names)}")
    path = _FOLDER / f"{name}.json"
    content = read_json(path)
    if sorted(content) != sorted(field.name for field in fields(Split)):
        raise ValueError(f"{path}: expected the keys {[field.name for field in fields(Split)]}, got {list(content)}.")
    return Split(**{**content, "base": tuple(content["base"]), "novel": tuple(content["novel"])})
