"""Links of a page to files beside it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from possam.report.markup import Markup, element, join

__all__ = ["file_link", "relative_address"]


def file_link(path: Path, folder: Path, title: str = "") -> Markup:
    """A link to a file with its name as text, behind `title` where there is one; `folder` as of `relative_address`."""
    name = os.fsencode(path.name).decode("utf-8", "replace")
    link = element("a", name, href=relative_address(path, folder))
    return element("span", join(f"{title}: ", link)) if title else link


def relative_address(path: Path, folder: Path) -> str:
    """The address of a file, relative to a page in `folder`: with "/" on every system, percent-encoded as UTF-8.

    On another drive, to which no relative path leads, it is a file: address.
    """
    target = os.path.abspath(path)
    try:
        relative = Path(os.path.relpath(target, os.path.abspath(folder)))
    except ValueError:
        return Path(target).as_uri()
    return quote(os.fsencode(relative.as_posix()))
