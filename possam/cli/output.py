"""Tables on stdout and progress bars on stderr, in a terminal and in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["console", "progress_bar", "table"]

_WIDTH_OF_FILES = 160


def console() -> Console:
    """Standard output; lines of a file or a pipe are not folded at a terminal's width."""
    out = Console(highlight=False, emoji=False, markup=False)
    return out if out.is_terminal else Console(highlight=False, emoji=False, markup=False, width=_WIDTH_OF_FILES)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` hold numbers. The last column has the remaining width."""
    result = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        last = heading == headings[-1]
        result.add_column(heading, justify="right" if heading in right else "left", no_wrap=not last, overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


@contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while the context lasts, unless quiet; call what it gives with what is done and what is to be
    done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    err = Console(stderr=True)
    # A file gets no bar, which would leave it empty lines.
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
