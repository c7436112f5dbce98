"""Carries out plans: in several processes, going on where a stopped run ended, and naming what is wrong."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from possam.data.preparation.journal import Journal
from possam.data.preparation.plan import JsonFile, Plan, Report, Task, is_listed
from possam.utils.files import read_json, write_json
from possam.utils.processes import end_with_parent

__all__ = ["check_space", "run_plans"]

_MOST_FAILURES = 20
Map = Callable[[Callable[..., Any], Sequence[Any]], Iterator[Any]]


@dataclass(frozen=True)
class _Outcome:
    written: int = 0
    value: Any = None
    kept: bool = False
    failure: str = ""
    fatal: bool = False


def run_plans(
    plans: Sequence[Plan],
    *,
    processes: int,
    progress: Callable[[int, int], object] | None,
    overwrite: bool,
) -> Report:
    """Carry out plans one after another.

    Raises:
        ValueError: the disk is too small, or files are wrong; names up to 20 of them. What the other tasks wrote
            stays, so that a run after fixing goes on from there; a plan with a failure writes no JSON.
    """
    check_space(plans, overwrite=overwrite)
    total = sum(len(plan.tasks) for plan in plans)
    report, before = Report(), 0
    try:
        with _mapping(processes) as map_tasks:
            for plan in plans:

                def advance(done: int, before: int = before) -> None:
                    if progress is not None:
                        progress(before + done, total)

                report += _run_plan(plan, map_tasks, advance, overwrite)
                before += len(plan.tasks)
    except BrokenProcessPool as error:
        raise ValueError(
            f"a worker process ended by itself ({error}), as when memory runs out; run again with fewer processes."
        ) from error
    return report


def check_space(plans: Sequence[Plan], *, overwrite: bool = False) -> None:
    """Compare what the plans will write with what is free.

    Raises:
        ValueError: it does not fit; says how much is missing.
    """
    needed = 0.0
    for plan in plans:
        listings: dict[Path, set[str]] = {}
        for task in plan.tasks:
            if plan.space and (overwrite or not all(is_listed(path, listings) for path in task.targets)):
                needed += plan.space * sum(path.stat().st_size for path in task.sources)
    place = next((task.targets[0] for plan in plans for task in plan.tasks if task.targets), None)
    if place is None:
        return
    folder = next(parent for parent in place.parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"about {needed / 1e9:.2f} GB are to be written, but {free / 1e9:.2f} GB are free at {folder}; make room, "
            "or put the datasets' root on a larger disk."
        )


def _start_worker() -> None:
    end_with_parent()
    cv2.setNumThreads(1)


@contextmanager
def _mapping(processes: int) -> Iterator[Map]:
    cv2.setNumThreads(1)
    if processes == 1:
        yield lambda function, items: map(function, items)
        return
    # Not "fork": a fork of a process that has started threads (OpenCV, torch) may hang. A fork server imports once
    # for all workers; where there is none, each worker imports for itself.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["possam.data.preparation"])
    pool = ProcessPoolExecutor(processes, context, initializer=_start_worker)
    try:
        yield lambda function, items: pool.map(function, items, chunksize=8)
    finally:
        pool.shutdown(cancel_futures=True)


def _run_plan(plan: Plan, map_tasks: Map, advance: Callable[[int], None], overwrite: bool) -> Report:
    by_key = {task.key: task for task in plan.tasks}
    assert len(by_key) == len(plan.tasks), "the keys of a plan's tasks must differ"
    there = _read(plan.json.path) if plan.json else None
    journal = Journal(plan.json.path) if plan.json else None
    in_json: dict[str, Any] = {}
    known: dict[str, Any] = {}
    if plan.json and journal and not overwrite:
        in_json = _values(plan.json, there)
        known = {**in_json, **journal.read(by_key)}
    # A task whose value is not known is done even where its targets are there.
    items = [(task, not overwrite and (plan.json is None or task.key in known)) for task in plan.tasks]
    _sweep({target.parent for task in plan.tasks for target in task.targets})
    report, failures, values = Report(), [], []
    results = map_tasks(partial(_attempt, plan.work, plan.is_whole), items)
    for done, (task, outcome) in enumerate(zip(plan.tasks, results, strict=True), start=1):
        if outcome.failure:
            failures.append(outcome.failure)
            if outcome.fatal or len(failures) == _MOST_FAILURES:
                break
        elif outcome.kept:
            values.append(known.get(task.key))
        else:
            values.append(outcome.value)
            if journal:
                journal.add(task, outcome.value)
        report += Report(outcome.written, len(task.targets) - outcome.written if not outcome.failure else 0)
        advance(done)
    if failures:
        raise ValueError(_failure_message(failures, len(plan.tasks)))
    if plan.json and journal:
        # Values first: another project's JSON may say the same with other words around it, and is left alone.
        same = not overwrite and in_json == dict(zip(by_key, values, strict=True))
        report += Report(kept=1) if same else _write_json(plan.json, values, there)
        journal.remove()
    return report


def _sweep(folders: set[Path]) -> None:
    """Remove what a killed run had begun to write: temporary files that nobody has touched for an hour."""
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink(missing_ok=True)


def _attempt(
    work: Callable[[Task], tuple[int, Any]], is_whole: Callable[[Task], bool], item: tuple[Task, bool]
) -> _Outcome:
    task, may_keep = item
    try:
        if may_keep and is_whole(task):
            return _Outcome(kept=True)
        return _Outcome(*work(task))
    except (ValueError, FileNotFoundError) as error:
        return _Outcome(failure=str(error))
    except OSError as error:
        # A full or read-only disk spoils all tasks alike.
        return _Outcome(failure=f"{task.key}: {error}; make room or fix the rights, and run again.", fatal=True)


def _failure_message(failures: list[str], tasks: int) -> str:
    if len(failures) == 1:
        return failures[0]
    stopped = ", and the run was stopped" if len(failures) == _MOST_FAILURES else ""
    return "\n".join([f"{len(failures)} of {tasks} images are wrong{stopped}:", *failures])


def _values(file: JsonFile, content: dict[str, Any] | None) -> dict[str, Any]:
    try:
        return dict(file.values(content)) if content is not None else {}
    except (KeyError, TypeError, IndexError):
        # Another tool's file in this place: it is made anew.
        return {}


def _write_json(file: JsonFile, values: list[Any], there: dict[str, Any] | None) -> Report:
    content = file.content(values)
    if content == there:
        return Report(kept=1)
    write_json(file.path, content)
    return Report(written=1)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (FileNotFoundError, ValueError):
        # Missing or damaged, which is to be made anew either way.
        return None
