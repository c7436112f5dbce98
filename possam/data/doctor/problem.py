"""What the doctor finds: one problem, of one file or of many that have it in common."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["ABSENT", "Problem", "common_folder", "gather"]

ABSENT = "absent"
_DETAILS = 3
_VALUES = 300


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong, where, and what fixes it.

    Attributes:
        kind: one word or two for machines; `ABSENT` is the kind of a dataset that is not on this machine at all.
        where: the file; of several files the folder that holds them all.
        what: what is wrong and what is expected, the same for all files that have this problem.
        fix: what a person does about it.
        details: the first few files, each with the values found in it.
        values: the numbers that are wrong (classes, ids), from all files.
        count: how many files, or entries of a file, have it; total: of how many, where that says something, else 0.
    """

    kind: str
    where: str
    what: str
    fix: str
    details: tuple[str, ...] = ()
    values: frozenset[int] = frozenset()
    count: int = 1
    total: int = 0

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.details) else ""
        details = f": {'; '.join(self.details)}{more}" if self.details else ""
        of = f" of {self.total:,}" if self.total else ""
        number = f" ({self.count:,}{of})" if self.count > 1 or self.total else ""
        return f"{self.what}{number}{details}"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object with the attributes' names."""
        return {**asdict(self), "details": list(self.details), "values": sorted(self.values)}


def gather(problems: Iterable[Problem]) -> list[Problem]:
    """Join problems of the same kind, wording and fix, in the order of their first; gathering parts first changes
    nothing."""
    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.kind, problem.what, problem.fix), []).append(problem)
    return [_join(group) for group in groups.values()]


def _join(group: list[Problem]) -> Problem:
    if len(group) == 1:
        return replace(group[0], details=group[0].details[:_DETAILS])
    places = {problem.where for problem in group}
    details = tuple(detail for problem in group for detail in problem.details[:_DETAILS])
    values = sorted({value for problem in group for value in problem.values})
    return replace(
        group[0],
        where=places.pop() if len(places) == 1 else common_folder(places),
        details=details[:_DETAILS],
        values=frozenset(values[:_VALUES]),
        count=sum(problem.count for problem in group),
    )


def common_folder(paths: Iterable[str | Path]) -> str:
    """The folder that holds all of some files; annotation files may name some by absolute paths, others not."""
    paths = [os.fspath(path) for path in paths]
    if len({os.path.isabs(path) for path in paths}) > 1:
        paths = [os.path.abspath(path) for path in paths]
    return os.path.commonpath(paths) or "."
