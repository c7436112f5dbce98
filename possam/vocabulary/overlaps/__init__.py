"""Which classes of a test set a training set has shown, as versioned JSON: ``<train>_to_<test>.json``.

``python -m possam.vocabulary.overlaps`` writes those of the overlap rule again after a table has changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from possam.utils.files import read_json, write_atomically

if TYPE_CHECKING:
    from possam.vocabulary.vocabulary import Vocabulary

OVERLAP_RULE = "seen: any name of the class, case and spacing ignored, is a name in the training table"

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """The classes of one table that training on another has shown, and those it has not.

    Args:
        train, test: names of the two tables.
        version: raised whenever anything else here changes, so that a reported number names its split.
        rule: how the classes were divided, for people.
        train_sha256, test_sha256: ``Vocabulary.sha256`` of the two tables that were divided.
        seen, unseen: display names of the test table's classes, in its order.
    """

    train: str
    test: str
    version: int
    rule: str
    train_sha256: str
    test_sha256: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]

    def restricted(self, names: Iterable[str]) -> Overlap:
        """The same division of some of the classes, given by their display names."""
        kept = set(names)
        return replace(
            self,
            seen=tuple(name for name in self.seen if name in kept),
            unseen=tuple(name for name in self.unseen if name in kept),
        )


def divide(
    train: Vocabulary, test: Vocabulary, seen: Sequence[bool], *, rule: str, version: int = 1
) -> Overlap:
    """Make the overlap in which class i of ``test`` is seen where ``seen[i]``."""
    told = list(zip(test.display_names, seen, strict=True))
    return Overlap(
        train=train.name,
        test=test.name,
        version=version,
        rule=rule,
        train_sha256=train.sha256,
        test_sha256=test.sha256,
        seen=tuple(name for name, is_seen in told if is_seen),
        unseen=tuple(name for name, is_seen in told if not is_seen),
    )


def overlap_names() -> list[str]:
    """``"<train>_to_<test>"`` of every overlap that ships with the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


@cache
def find_overlap(train: str, test: str) -> Overlap | None:
    """The shipped overlap of two tables, by their names; None where there is none.

    Raises:
        ValueError: the file is not an overlap.
    """
    path = _path(train, test)
    if path.stem not in overlap_names():
        return None
    content = read_json(path)
    expected = [field.name for field in fields(Overlap)]
    if sorted(content) != sorted(expected):
        raise ValueError(f"{path}: expected the keys {', '.join(expected)}, got {list(content)!r:.200}")
    for key, value in content.items():
        wanted = {"version": int, "seen": list, "unseen": list}.get(key, str)
        texts = value if wanted is list else [value] if wanted is str else []
        if type(value) is not wanted or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{path}: {key} must be of type {wanted.__name__} (of strings), got {value!r:.200}")
    return Overlap(**{**content, "seen": tuple(content["seen"]), "unseen": tuple(content["unseen"])})


def write_overlap(overlap: Overlap) -> Path:
    """Write an overlap into the package and return its path."""
    path = _path(overlap.train, overlap.test)
    text = json.dumps(asdict(overlap), ensure_ascii=False, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
    find_overlap.cache_clear()
    return path


def _path(train: str, test: str) -> Path:
    return _FOLDER / f"{train}_to_{test}.json"
