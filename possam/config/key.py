"""One row of the table of settings, and the checks that its values have to pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from functools import reduce
from operator import getitem
from typing import Any, Literal

from possam.d2.config import CfgNode
from possam.utils.messages import did_you_mean

__all__ = [
    "DETECTRON2",
    "Check",
    "Choice",
    "Key",
    "ListOf",
    "above",
    "at_least",
    "at_most",
    "count",
    "divisor_of",
    "fraction",
    "name",
    "not_negative",
    "positive",
    "seed",
    "text",
    "value_of",
]

DETECTRON2: Any = object()
"""In place of a default: Detectron2 owns the key, and its default holds."""

_SHOWN = 10  # names of a long choice in a message


@dataclass(frozen=True)
class Check:
    """What a number or text must be.

    Attributes:
        wanted: what follows "must be" in a message; "{}" in it stands for the value of `other`.
        fits: whether a value is that. Takes the value, and behind it that of `other`, if there is one.
        other: full key of another setting that the range depends on.
        where_read: whether it holds for a setting that has an effect alone (`Key.only_if`).
    """

    wanted: str
    fits: Callable[..., bool]
    other: str = ""
    where_read: bool = False

    def __call__(self, key: str, value: Any, cfg: CfgNode) -> None:
        """Raise ValueError, naming key, value and range, for a value that does not fit; no infinity and no NaN does."""
        others = [value_of(cfg, self.other)] if self.other else []
        finite = not isinstance(value, float) or math.isfinite(value)
        if not (finite and self.fits(value, *others)):
            shown = value if isinstance(value, int | float) else f"{value!r:.80}"
            raise ValueError(f"{key} is {shown}, but must be {self.wanted.format(*others)}.{_number_hint(value)}")


@dataclass(frozen=True)
class Choice:
    """One of some names.

    Attributes:
        names: the names, or what returns them where they are known only later.
    """

    names: Iterable[str] | Callable[[], Iterable[str]]
    where_read: bool = False

    @property
    def wanted(self) -> str:
        names = self.options()
        shown = names if len(names) <= _SHOWN else [*names[:_SHOWN], f"… ({len(names)} names)"]
        return f"one of: {', '.join(repr(name) if not name else name for name in shown)}"

    def __call__(self, key: str, value: Any, cfg: CfgNode | None = None) -> None:
        """Raise ValueError, naming key, value and valid names, for any other value."""
        if value not in (names := self.options()):
            raise ValueError(f"{key} is {value!r:.200}, but must be {self.wanted}.{did_you_mean(value, names)}")

    def options(self) -> list[str]:
        return list(self.names() if callable(self.names) else self.names)


@dataclass(frozen=True)
class ListOf:
    """A list whose elements differ and all pass one check.

    Attributes:
        element: the check.
    """

    element: Check | Choice
    where_read: bool = False

    @property
    def wanted(self) -> str:
        return f"a list, each {self.element.wanted}"

    def __call__(self, key: str, value: Any, cfg: CfgNode) -> None:
        """Raise ValueError for an element that does not pass, or is there twice."""
        values = list(value)
        for place, one in enumerate(values):
            self.element(f"{key}[{place}]", one, cfg)
            if one in values[:place]:
                raise ValueError(f"{key} has {one!r} twice; remove one.")


@dataclass(frozen=True)
class Key:
    """A setting.

    Attributes:
        name: full name, such as "SOLVER.BASE_LR".
        default: its value where none is given; `DETECTRON2` for a key that Detectron2 has and whose default is kept.
        check: what its values must pass, or several; its type is checked in any case.
        help: what it is, in one line.
        machine: whether it is of the machine or the run rather than of the model, and so not saved with a model.
        path: whether it is the path of a file or folder, in which `~` and environment variables are written out.
        resume: "fixed" if a resumed run must have the value of the run before, since model or order of the data would
            be another; "effective" if it may have another, which takes effect; "" if it does not matter there.
        only_if: other keys with the value each that it is read with; where none of them has it (or, being a list,
            holds it), the setting has no effect. Keys that the system does not have do not count.
    """

    name: str
    default: Any = DETECTRON2
    check: Check | Choice | ListOf | tuple[Check | Choice | ListOf, ...] = ()
    _: KW_ONLY
    help: str
    machine: bool = False
    path: bool = False
    resume: Literal["", "fixed", "effective"] = ""
    only_if: tuple[tuple[str, Any], ...] = ()

    @property
    def checks(self) -> tuple[Check | Choice | ListOf, ...]:
        return self.check if isinstance(self.check, tuple) else (self.check,)

    def without_effect(self, cfg: CfgNode) -> str:
        """Why the setting is not read under a configuration; "" where it is."""
        reasons = []
        for other, wanted in self.only_if:
            try:
                found = value_of(cfg, other)
            except KeyError:
                return ""
            if found == wanted or (isinstance(found, list | tuple) and wanted in found):
                return ""
            reasons.append(f"{other} {'has no' if isinstance(found, list | tuple) else 'is not'} {wanted}")
        return " and ".join(reasons)


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of a full key. Raises KeyError where there is none."""
    return reduce(getitem, key.split("."), cfg)


def at_least(bound: float) -> Check:
    return Check(f"at least {bound}", lambda value: value >= bound)


def above(bound: float) -> Check:
    return Check(f"above {bound}", lambda value: value > bound)


def at_most(bound: float) -> Check:
    return Check(f"at most {bound}", lambda value: value <= bound)


def divisor_of(key: str) -> Check:
    """A divisor of the value of another key."""
    return Check(f"a divisor of {key}, {{}}", lambda value, whole: whole % value == 0, key, where_read=True)


count = at_least(1)
not_negative = at_least(0)
positive = above(0)
fraction = Check("between 0 and 1", lambda value: 0 <= value <= 1)
seed = Check("below 2**31", lambda value: value < 2**31)
name = Check("a name", lambda value: isinstance(value, str) and bool(value.strip()))


def text(what: str) -> Check:
    """A text that is not empty."""
    return Check(what, lambda value: bool(value.strip()))


def _number_hint(value: object) -> str:
    """YAML takes numbers such as 1e2, without a point and a sign, for text."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    return f" In YAML, {value} is text; write {number:.15g}." if math.isfinite(number) else ""
