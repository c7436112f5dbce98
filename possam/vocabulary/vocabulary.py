"""What the classes are called, which are things, and which of them a training vocabulary already knew.

A vocabulary is plain data: it holds no tensor, belongs to no model and never changes. It comes with a dataset
or from a person, and two vocabularies can be used in one process, in any order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from possam.utils.files import full_path
from possam.utils.messages import did_you_mean, few

from .names import clean_name, is_visible, split_names
from .overlaps import Overlap, find_overlap
from .tables import check_table, read_table, table_names, table_path, write_table

logger = logging.getLogger(__name__)

_THINGS = "_things"


def fold_name(name: str) -> str:
    """Return the form in which names are compared: case and width ignored, runs of white space as one blank."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
    return " ".join(name.casefold().split())


@dataclass(frozen=True, kw_only=True)
class Category:
    """One class of a vocabulary.

    Args:
        names: at least one natural-language name; ``names[0]`` is displayed, the rest are synonyms. Invisible
            characters are removed (`possam.vocabulary.names.clean_name`).
        isthing: True for countable things, False for stuff. A bool, not 0 or 1.
        dataset_id: the id that the dataset's annotation files use, an int ≥ 0.
        dataset_name: what the dataset itself calls the class; the display name where it is not given.

    Raises:
        ValueError: a name is empty or written twice, or a value has the wrong type.
    """

    names: tuple[str, ...]
    isthing: bool
    dataset_id: int
    dataset_name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not isinstance(self.names, Sequence):
            raise ValueError(
                "the names of a class must be a sequence of strings such as ('sofa', 'couch'), "
                f"got {self.names!r}"
            )
        if not self.names:
            raise ValueError(f"class with dataset id {self.dataset_id!r} has no name; give it at least one")
        for name in self.names:
            if not isinstance(name, str) or not is_visible(clean_name(name)):
                raise ValueError(
                    f"class with dataset id {self.dataset_id!r} has an empty name among "
                    f"{list(self.names)!r}; every name must be a string with at least one visible character: "
                    "write it or take it out"
                )
            _require_text(name, f"a name of the class with dataset id {self.dataset_id!r}")
        _require_text(self.dataset_name, f"dataset_name of class {self.names[0]!r}")
        if not isinstance(self.isthing, bool):
            raise ValueError(
                f"isthing of class {self.names[0]!r} must be True (thing) or False (stuff), "
                f"got {self.isthing!r} of type {type(self.isthing).__name__}"
            )
        if isinstance(self.dataset_id, bool) or not isinstance(self.dataset_id, int) or self.dataset_id < 0:
            raise ValueError(
                f"dataset_id of class {self.names[0]!r} must be an int ≥ 0, got {self.dataset_id!r}"
            )
        names = tuple(clean_name(name) for name in self.names)
        folded = [fold_name(name) for name in names]
        for position, name in enumerate(folded):
            if name in folded[:position]:
                raise ValueError(
                    f"class {names[0]!r} lists the name {names[position]!r} twice; remove one of the two"
                )
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "dataset_name", self.dataset_name or names[0])


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """An ordered list of classes; the contiguous id of a class is its position.

    Args:
        name: what the vocabulary is called, for example "coco_panoptic".
        categories: at least one class; no name may belong to two of them, nor may a dataset id.
        source: where the classes come from, for people.
        shared_names: let a name belong to several classes, as in some published lists; ties go to the first of them.

    Raises:
        ValueError: the vocabulary is empty, or two classes share a name or a dataset id.
    """

    name: str
    categories: tuple[Category, ...]
    source: str = ""
    shared_names: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError(f"a vocabulary needs a name, got {self.name!r}")
        _require_text(self.name, "the name of a vocabulary")
        _require_text(self.source, f"the source of vocabulary {self.name!r}")
        if not self.categories:
            raise ValueError(f"vocabulary {self.name!r} has no classes; give it at least one")
        if not self.shared_names:
            self._check_names()
        ids: dict[int, str] = {}
        for category in self.categories:
            if category.dataset_id in ids:
                raise ValueError(
                    f"vocabulary {self.name!r} uses the dataset id {category.dataset_id} for both "
                    f"{ids[category.dataset_id]!r} and {category.names[0]!r}; ids must differ"
                )
            ids[category.dataset_id] = category.names[0]

    def _check_names(self) -> None:
        owner: dict[str, int] = {}
        for number, category in enumerate(self.categories):
            for name in category.names:
                other = owner.setdefault(fold_name(name), number)
                if other != number:
                    raise ValueError(
                        f"vocabulary {self.name!r} gives the name {name!r} to two classes, "
                        f"number {other} {self.categories[other].names[0]!r} and number {number} "
                        f"{category.names[0]!r} (counted from 0); a name must decide for one class, "
                        "so rename one of the two, or join them"
                    )

    # ---------------------------------------------------------------- where vocabularies come from

    @classmethod
    def from_file(cls, path: str | Path) -> Vocabulary:
        """Read a JSON table (the schema is described in ``possam.vocabulary.tables``).

        Raises:
            ValueError: there is no such file, or its content does not follow the schema.
        """
        return cls.from_table(read_table(full_path(path)), str(path))

    @classmethod
    def from_table(cls, table: Any, source: str) -> Vocabulary:
        """Build from what :meth:`to_table` gives; ``source`` is where it comes from, for messages.

        Raises:
            ValueError: it does not follow the schema.
        """
        check_table(table, source)
        categories = []
        for position, entry in enumerate(table["classes"]):
            try:
                categories.append(
                    Category(
                        names=tuple(entry["names"]),
                        isthing=bool(entry["isthing"]),
                        dataset_id=entry["id"],
                        dataset_name=entry.get("dataset_name", ""),
                    )
                )
            except ValueError as error:
                raise ValueError(f"{source}: class number {position}: {error}") from error
        try:
            options = {key: table[key] for key in ("source", "shared_names") if key in table}
            return cls(name=table["name"], categories=tuple(categories), **options)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error

    @classmethod
    def load(cls, name_or_path: str | Path) -> Vocabulary:
        """Return a table that ships with the package by its name, or read the JSON file at a path.

        A shipped split's classes of its table are called by the split's name, and its base classes by that and "_base".

        Raises:
            ValueError: neither a shipped table nor a JSON file; the message lists the shipped ones.
        """
        from .splits import split_vocabulary  # which is built on this module

        name = str(name_or_path)
        if (divided := split_vocabulary(name)) is not None:
            return divided
        if (path := table_path(name) or name) != name or Path(name).suffix == ".json":
            return cls.from_file(path)
        raise ValueError(
            f"unknown vocabulary {name!r}.{did_you_mean(name, table_names())} The package has "
            f"{', '.join(table_names())}; for your own give the path of a .json file"
        )

    @classmethod
    def from_names(
        cls, names: Sequence[str], *, isthing: bool | Sequence[bool] = True, name: str = "custom"
    ) -> Vocabulary:
        """Build a vocabulary from words, one string a class, synonyms separated by commas: ``"sofa, couch"``.

        Commas inside brackets, double quotes or numbers separate nothing: ``"cup (tea, coffee)"``.
        Dataset ids are the positions. ``isthing`` is one bool for all classes or one a class.
        """
        if isinstance(names, str):
            raise ValueError(f"expected a list of class names, got the string {names!r}; write [{names!r}]")
        names = list(names)
        kinds = [isthing] * len(names) if isinstance(isthing, bool) else list(isthing)
        if len(kinds) != len(names):
            raise ValueError(f"isthing has {len(kinds)} entries for {len(names)} classes; give one a class")
        categories = []
        for position, (text, kind) in enumerate(zip(names, kinds, strict=True)):
            try:
                categories.append(Category(names=_split_synonyms(text), isthing=kind, dataset_id=position))
            except ValueError as error:
                raise ValueError(f"class number {position} (counted from 0) of {name!r}: {error}") from error
        return cls(name=name, categories=tuple(categories))

    @classmethod
    def from_coco_categories(cls, categories: Iterable[Mapping[str, Any]], name: str) -> Vocabulary:
        """Build a vocabulary from the ``categories`` list of a COCO-format annotation file, in its order.

        Every entry needs ``id`` and ``name``; ``isthing`` is 0 or 1, and 1 where absent, as in COCO's files of
        instances. The dataset's own spelling is kept as ``dataset_name``.

        Commas outside of brackets, double quotes and numbers separate synonyms: "building, edifice". A synonym that
        several classes have is left to the one whose first name it is, or to none: of "screen door, screen" and
        "screen, projection screen" only the second keeps "screen". Where several classes have the same first name, what
        follows tells them apart: "traffic light, red" and "traffic light, green" keep their whole names.
        """
        if not isinstance(categories, Iterable) or isinstance(categories, str | Mapping):
            raise ValueError(f"the categories of {name!r} must be a list of objects, got {categories!r:.200}")
        entries, kinds = [], []
        for position, entry in enumerate(categories):
            if not isinstance(entry, Mapping):
                raise ValueError(f"category number {position} of {name!r} must be an object, got {entry!r:.200}")
            missing = [key for key in ("id", "name") if key not in entry]
            if missing:
                raise ValueError(
                    f"category number {position} of {name!r} lacks {missing}; got {dict(entry)!r:.200}"
                )
            isthing = entry.get("isthing", 1)
            if isthing not in (0, 1):
                raise ValueError(f"isthing of category {entry['name']!r} must be 0 or 1, got {isthing!r:.200}")
            entries.append(entry)
            kinds.append(bool(isthing))
        names = _names_apart([entry["name"] for entry in entries], name)
        built = (
            Category(names=own, isthing=kind, dataset_id=entry["id"], dataset_name=entry["name"])
            for own, kind, entry in zip(names, kinds, entries, strict=True)
        )
        return cls(name=name, categories=tuple(built))

    def to_json(self, path: str | Path) -> None:
        """Write the table that :meth:`from_file` reads back as an equal vocabulary."""
        write_table(self.to_table(), Path(path))

    def to_table(self) -> dict[str, Any]:
        """The table as plain data (the schema is described in ``possam.vocabulary.tables``)."""
        keys = ("id", "dataset_name", "names", "isthing")
        classes = [
            dict(zip(keys, (one.dataset_id, one.dataset_name, list(one.names), int(one.isthing)), strict=True))
            for one in self.categories
        ]
        shared = {"shared_names": True} if self.shared_names else {}
        return {"name": self.name, "source": self.source, **shared, "classes": classes}

    # ---------------------------------------------------------------- what is asked of them

    def __len__(self) -> int:
        return len(self.categories)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every name of every class, class after class."""
        return tuple(name for category in self.categories for name in category.names)

    @cached_property
    def name_class(self) -> tuple[int, ...]:
        """The contiguous class id of each entry of ``names``."""
        return tuple(index for index, category in enumerate(self.categories) for _ in category.names)

    @cached_property
    def display_names(self) -> tuple[str, ...]:
        return tuple(category.names[0] for category in self.categories)

    @cached_property
    def isthing(self) -> tuple[bool, ...]:
        return tuple(category.isthing for category in self.categories)

    @cached_property
    def contiguous_id(self) -> dict[int, int]:
        """From the dataset's id to the contiguous class id."""
        return {category.dataset_id: index for index, category in enumerate(self.categories)}

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the names of every class, in order; neither ids nor the vocabulary's own name count."""
        content = [list(category.names) for category in self.categories]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def difference(self, other: Vocabulary) -> str:
        """What a model would learn otherwise from `other`, in words; "" for the same classes in the same order.

        Names and things count. The vocabulary's own name does not, nor do the dataset's ids and spellings, which only
        its annotation files are read with.
        """
        if len(self) != len(other):
            return f"{len(self)} and {len(other)} classes"
        for number, (mine, theirs) in enumerate(zip(self.categories, other.categories, strict=True)):
            if mine.names != theirs.names:
                return f"class number {number} is {', '.join(mine.names)!r:.100} and {', '.join(theirs.names)!r:.100}"
            if mine.isthing != theirs.isthing:
                kinds = [("stuff", "a thing")[category.isthing] for category in (mine, theirs)]
                return f"{mine.names[0]!r:.100} is {kinds[0]} and {kinds[1]}"
        return ""

    def things(self) -> Vocabulary:
        """The things alone, in the same order, under the name ``"<name>_things"``.

        Raises:
            ValueError: there are none.
        """
        if not (things := tuple(category for category in self.categories if category.isthing)):
            raise ValueError(f"vocabulary {self.name!r} has no things; it cannot be used for instances")
        return replace(self, name=self.name + _THINGS, categories=things)

    def exact_overlap(self, train: Vocabulary) -> tuple[bool, ...]:
        """For each class: is any of its names, case and spacing ignored, a name in ``train``?"""
        known = {fold_name(name) for name in train.names}
        return tuple(any(fold_name(name) in known for name in category.names) for category in self.categories)

    def overlap(self, train: Vocabulary) -> Overlap | None:
        """The shipped overlap of seen and unseen classes that applies to these two, or None.

        It applies where both have the very names of its tables. The things of a table have the table's
        overlap, restricted to them.
        """
        table = self.name.removesuffix(_THINGS)
        if (overlap := find_overlap(train.name, table)) is None or overlap.train_sha256 != train.sha256:
            return None
        if overlap.test_sha256 == self.sha256:
            return overlap
        if table != self.name and Vocabulary.load(table).things().sha256 == self.sha256:
            return overlap.restricted(self.display_names)
        return None

    def seen(self, train: Vocabulary) -> tuple[bool, ...]:
        """For each class: did training on ``train`` show it, under any name?

        The shipped overlap decides where there is one (:meth:`overlap`), else :meth:`exact_overlap` does.
        """
        if (overlap := self.overlap(train)) is None:
            return self.exact_overlap(train)
        seen = set(overlap.seen)
        return tuple(name in seen for name in self.display_names)


def _require_text(value: object, what: str) -> None:
    """ValueError unless it can be written and tokenized: JSON may hold halves of characters ("\\ud83e")."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a string, got {value!r:.200}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} has half of a character at position {error.start}: {value!r:.200}") from error


def _split_synonyms(text: str) -> tuple[str, ...]:
    if not isinstance(text, str):
        raise ValueError(f"a class name must be a string, got {json.dumps(text, default=repr):.200}")
    return split_names(text)


def _names_apart(texts: Sequence[str], vocabulary: str) -> list[tuple[str, ...]]:
    """Names of each category, so that no two share one (see `Vocabulary.from_coco_categories`)."""
    split = [_split_synonyms(text) for text in texts]
    first = Counter(fold_name(names[0]) for names in split)
    shared = [first[fold_name(names[0])] > 1 for names in split]
    split = [(clean_name(text),) if one else names for names, text, one in zip(split, texts, shared, strict=True)]
    owners = Counter(name for names in split for name in {fold_name(name) for name in names})
    kept = [(names[0], *(name for name in names[1:] if owners[fold_name(name)] == 1)) for names in split]
    dropped = dict.fromkeys(name for names, rest in zip(split, kept, strict=True) for name in names if name not in rest)
    if dropped:
        logger.warning(
            "%s: synonyms that several classes have are left to the class whose first name they are, or to none: %s",
            vocabulary,
            few([repr(name) for name in dropped]),
        )
    return kept
