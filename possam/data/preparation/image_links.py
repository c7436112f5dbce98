"""Images that the prepared layout has under another path: linked, or copied where the disk cannot link."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from possam.data.preparation.pictures import link_or_copy
from possam.data.preparation.plan import Plan, Task
from possam.utils.files import read_text

__all__ = ["image_plan", "read_list"]


def read_list(path: Path, source: str) -> list[str]:
    """The names of an official list of images, one a line.

    Raises:
        FileNotFoundError: the list is empty; ends with `source`, how to get it.
        ValueError: it is not text.
    """
    names = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise FileNotFoundError(f"{path} names no image. {source}")
    return names


def image_plan(images: Sequence[Path], folder: Path) -> Plan:
    """Make `images` appear in `folder` under their own names."""
    tasks = [Task(image.stem, (image,), (folder / image.name,)) for image in images]
    # Links need no room; where copies are made, the disk's own message must do.
    return Plan(tasks=tasks, work=_link, is_whole=_is_same, space=0.0)


def _link(task: Task) -> tuple[int, None]:
    return link_or_copy(task.sources[0], task.targets[0]), None


def _is_same(task: Task) -> bool:
    source, target = task.sources[0], task.targets[0]
    return target.is_file() and target.stat().st_size == source.stat().st_size
