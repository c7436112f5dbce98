"""What a stopped run had found out already: one line a finished image, beside the JSON that it is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from possam.data.preparation.plan import Task

__all__ = ["Journal"]


class Journal:
    """Values of finished tasks, kept until the JSON is written.

    A line counts only while the files that it was made of are the same size and age; half a line, the last of a
    run that was killed, counts as none.
    """

    def __init__(self, json_path: Path) -> None:
        self.path = json_path.with_name(f".{json_path.name}.unfinished")

    def read(self, tasks: dict[str, Task]) -> dict[str, Any]:
        """The values of those of these tasks that are in it, by key."""
        values: dict[str, Any] = {}
        if not self.path.is_file():
            return values
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                key, stamp, value = json.loads(line)
            except ValueError:
                continue
            if key in tasks and stamp == _stamp(tasks[key]):
                values[key] = value
        return values

    def add(self, task: Task, value: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([task.key, _stamp(task), value]) + "\n")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _stamp(task: Task) -> list[list[int]]:
    return [[status.st_size, status.st_mtime_ns] for status in (path.stat() for path in task.sources)]
