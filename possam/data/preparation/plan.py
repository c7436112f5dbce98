"""What is to be made of which official files: the tasks of a preparation, one an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from possam.utils.messages import few

__all__ = [
    "JsonFile",
    "Need",
    "Plan",
    "Report",
    "Task",
    "check_files",
    "is_listed",
    "list_files",
    "pair_files",
    "require",
]


@dataclass(frozen=True)
class Task:
    """One image: the official files that are read, and those that are written from them.

    Attributes:
        key: distinct within a plan; it names the image in the plan's JSON.
        sources: read, in the order that the plan's `work` expects.
        targets: written, likewise.
    """

    key: str
    sources: tuple[Path, ...]
    targets: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class JsonFile:
    """An annotation file that gathers what `work` returned for every task of a plan.

    Attributes:
        content: the file's content from the tasks' values, in the tasks' order.
        values: back from a content to the values by key; KeyError or TypeError where it is another file's.
    """

    path: Path
    content: Callable[[list[Any]], dict[str, Any]]
    values: Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tasks that are done alike.

    Attributes:
        tasks: one an image.
        work: writes a task's targets, those that differ from what is there, and returns (files written, value
            for the JSON or None). It runs in other processes, so it can be pickled.
        is_whole: whether a task's targets are there, undamaged and of the right size and type.
        json: written after the last task; None where there is none.
        space: bytes written, as a multiple of the bytes read.
    """

    tasks: Sequence[Task]
    work: Callable[[Task], tuple[int, Any]]
    is_whole: Callable[[Task], bool]
    json: JsonFile | None = None
    space: float = 1.0


@dataclass(frozen=True)
class Need:
    """A file or folder that must be there, relative to the datasets' root, and how to get it."""

    path: str
    source: str


@dataclass(frozen=True)
class Report:
    """Files written, and files that were there and whole."""

    written: int = 0
    kept: int = 0

    def __add__(self, other: Report) -> Report:
        return Report(self.written + other.written, self.kept + other.kept)

    def __str__(self) -> str:
        if not self.written:
            return f"nothing to do: all {self.kept:,} files are there already"
        there = f"; {self.kept:,} were there already" if self.kept else ""
        return f"wrote {self.written:,} {'file' if self.written == 1 else 'files'}{there}"


def require(root: Path, needs: Mapping[str, Sequence[Need]]) -> None:
    """Check that every need is under `root`.

    Args:
        needs: by split.
    Raises:
        FileNotFoundError: names all that are missing, with what to do.
    """
    missing: dict[str, list[str]] = {}
    complete = []
    for split, split_needs in needs.items():
        absent = [need for need in split_needs if not (root / need.path).exists()]
        for need in absent:
            paths = missing.setdefault(need.source, [])
            if need.path not in paths:
                paths.append(need.path)
        if not absent:
            complete.append(split)
    if missing:
        lines = [f"{root} has no {', no '.join(paths)}. {source}" for source, paths in missing.items()]
        if complete:
            lines.append(f"What is there can be prepared alone: --splits {' '.join(complete)}")
        raise FileNotFoundError("\n".join(lines))


def list_files(folder: Path, pattern: str, source: str) -> list[Path]:
    """The files of a folder that match a glob pattern, sorted by path.

    Raises:
        FileNotFoundError: there is none; ends with `source`, how to get them.
    """
    files = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"{folder} has no file {pattern}. {source}")
    return files


def pair_files(files: Sequence[Path], folder: Path, suffix: str, source: str) -> list[Path]:
    """For each file that of the same stem and another suffix in `folder`; raises as `check_files`."""
    return check_files([folder / (file.stem + suffix) for file in files], source)


def check_files(files: Sequence[Path], source: str) -> list[Path]:
    """`files`, all of which are there.

    Raises:
        FileNotFoundError: some are missing; names the first and ends with `source`, how to get them.
    """
    # One listing a folder, because a question a file is slow for 118,000 files on a network disk.
    listings: dict[Path, set[str]] = {}
    missing = [file for file in files if not is_listed(file, listings)]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(files)} files are missing: {few(missing, 3)}. {source}")
    return list(files)


def is_listed(path: Path, listings: dict[Path, set[str]]) -> bool:
    """Whether a file is there, by listings of folders, which are kept in `listings`."""
    if path.parent not in listings:
        listings[path.parent] = {p.name for p in path.parent.iterdir()} if path.parent.is_dir() else set()
    return path.name in listings[path.parent]
