"""Printing that cannot end a command or a training: text that cannot be written is left out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["guarded_output", "run_command"]


class _Guarded:
    """A text stream whose `write` and `flush` raise no OSError and replace characters that its encoding lacks by "?".

    Attributes:
        error: the last OSError of the stream, or None.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except UnicodeEncodeError:
            encoding = self._stream.encoding  # the error names a family of them
            return self.write(text.encode(encoding, "replace").decode(encoding))
        except OSError as error:
            self.error = error
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self.error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def abandon(self) -> None:
        """Send what the stream still holds to the null device, or the interpreter complains about it at its end."""
        try:
            self._stream.flush()
        except OSError:
            with suppress(OSError):  # a stream without a file
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def guarded_output() -> Iterator[None]:
    """Guard standard output and standard error: inside, nothing that is printed raises.

    A closed pipe, a full disk and characters that the stream's encoding lacks are covered, in `print`, logging and
    progress bars alike; a stream that was closed from the start (None) becomes the null device.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_guarded, before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _guarded(stream: Any) -> Any:
    if isinstance(stream, _Guarded):
        return stream
    if stream is None or getattr(stream, "closed", False):
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (open as long as the stream)
    return _Guarded(stream)


def run_command(main: Callable[..., int | None], *arguments: Any) -> int:
    """Call `main` with guarded output: the entry point of every command, tool and process of a run.

    Returns:
        the exit code: that of `main`; where it is 0 but not all of standard output was written, 1, with a sentence on
        standard error unless the reader of a pipe, such as `head`, has gone; 1 with a sentence where Detectron2 was
        asked for and cannot be used.

    Raises:
        What `main` raises otherwise.
    """
    with guarded_output():
        streams: list[Any] = [sys.stdout, sys.stderr]
        reported, logging.raiseExceptions = logging.raiseExceptions, False  # a log file on a full disk
        try:
            return _exit_code(main, arguments, streams[0])
        except ImportError as error:
            if error.name != "detectron2":
                raise
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            logging.raiseExceptions = reported
            for stream in streams:
                stream.abandon()


def _exit_code(main: Callable[..., int | None], arguments: tuple[Any, ...], stdout: _Guarded) -> int:
    try:
        code, end = main(*arguments) or 0, None
    except SystemExit as error:
        if error.code:
            raise
        code, end = 0, error
    stdout.flush()
    if code == 0 and stdout.error is not None:
        if not isinstance(stdout.error, BrokenPipeError):
            reason = stdout.error.strerror or str(stdout.error)
            print(f"error: not everything could be written to standard output ({reason}).", file=sys.stderr)
        return 1
    if end is not None:
        raise end
    return code
