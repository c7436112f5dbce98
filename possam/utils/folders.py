"""Walking folders through links, without going round in circles."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["leads_back", "walk"]


def leads_back(folder: str | Path) -> bool:
    """Whether a folder's path goes through a link to one of the folders above that link."""
    path = Path(os.path.abspath(folder))
    return any(
        os.path.realpath(here) in {os.path.realpath(parent) for parent in here.parents}
        for here in (path, *path.parents)
        if here.is_symlink()
    )


def walk(
    folder: str | Path, *, refused: Callable[[OSError], object], back: Callable[[Path], object] = lambda path: None
) -> Iterator[tuple[Path, list[str]]]:
    """A folder and its subfolders, linked ones too, each with the names of its files and of links that lead nowhere.

    Args:
        refused: called with the error of a folder that cannot be listed, which has its `filename`.
        back: called with a link to a folder above it, which is not followed.
    """
    for here, folders, names in os.walk(folder, followlinks=True, onerror=refused):
        for link in [name for name in folders if os.path.islink(os.path.join(here, name))]:
            if leads_back(Path(here, link)):
                folders.remove(link)
                back(Path(here, link))
        yield Path(here), names
