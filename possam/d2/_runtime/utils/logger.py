"""Logging set up once per process, and messages that hold back.

The runtime's loggers are named ``detectron2.…`` as Detectron2's are, so that one `setup_logger` call and one
filter serve both sides of the door.
"""

import atexit
import functools
import logging
import os
import sys
import time
from collections import Counter
from typing import Any

from termcolor import colored

from .file_io import PathManager

__all__ = ["log_every_n", "log_every_n_seconds", "log_first_n", "setup_logger"]

_RUNTIME = __name__.rsplit(".", 2)[0]
_PLAIN_FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"
_TIME_FORMAT = "%m/%d %H:%M:%S"


def _public_name(module_name: str) -> str:
    if module_name == _RUNTIME or module_name.startswith(_RUNTIME + "."):
        return "detectron2" + module_name[len(_RUNTIME) :]
    return module_name


def runtime_logger(module_name: str) -> logging.Logger:
    """The logger of a runtime module, under the name Detectron2 gives that module."""
    return logging.getLogger(_public_name(module_name))


class _TerminalFormatter(logging.Formatter):
    """Shortens the root logger's name and paints the level of warnings and errors."""

    _MARKS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}

    def __init__(self, *, root: str, short: str):
        super().__init__(
            colored("[%(asctime)s %(name)s]: ", "green") + "%(message)s", datefmt=_TIME_FORMAT
        )
        self._root, self._short = root, short

    def formatMessage(self, record: logging.LogRecord) -> str:
        # A copy, for the same record goes on to the plain formatter of the file.
        shown = logging.makeLogRecord(record.__dict__)
        if shown.name == self._root or shown.name.startswith(self._root + "."):
            shown.name = (self._short + shown.name[len(self._root) :]).lstrip(".")
        line = super().formatMessage(shown)
        colour = self._MARKS.get(record.levelno)
        return line if colour is None else f"{colored(record.levelname, colour, attrs=['bold'])} {line}"


@functools.lru_cache  # a second call with the same arguments must not add a second set of handlers
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Send everything from DEBUG up of logger ``name`` to the terminal (rank 0) and to a file (every rank).

    Args:
        output: a ``.txt``/``.log`` file, or a folder that gets ``log.txt``; None writes no file. Ranks above 0
            append ``.rankN`` to the name.
        distributed_rank: rank of this process.
        color: paint the terminal's lines.
        name: the logger to configure.
        abbrev_name: shown instead of ``name``; by default "d2" for "detectron2" and ``name`` itself otherwise.
        enable_propagation: also hand records to parent loggers.
        configure_stdout: False leaves the terminal alone.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    plain = logging.Formatter(_PLAIN_FORMAT, datefmt=_TIME_FORMAT)
    if configure_stdout and distributed_rank == 0:
        short = abbrev_name if abbrev_name is not None else {"detectron2": "d2"}.get(name, name)
        terminal = logging.StreamHandler(stream=sys.stdout)
        terminal.setFormatter(_TerminalFormatter(root=name, short=short) if color else plain)
        terminal.setLevel(logging.DEBUG)
        logger.addHandler(terminal)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        if distributed_rank > 0:
            path = f"{path}.rank{distributed_rank}"
        file = logging.StreamHandler(_log_stream(path))
        file.setFormatter(plain)
        file.setLevel(logging.DEBUG)
        logger.addHandler(file)
    return logger


@functools.cache  # two loggers that write to one file share one handle
def _log_stream(path: str) -> Any:
    PathManager.mkdirs(os.path.dirname(path) or ".")
    stream = PathManager.open(path, "a")
    atexit.register(stream.close)
    return stream


_SEEN: Counter[tuple[Any, ...]] = Counter()
_LAST_TIME: dict[tuple[Any, ...], float] = {}


def _find_caller() -> tuple[str, tuple[Any, ...]]:
    """Module name and (file, line, function) of the nearest frame outside this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    code = frame.f_code
    return _public_name(frame.f_globals["__name__"]), (code.co_filename, frame.f_lineno, code.co_name)


def log_first_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None, key: Any = "caller") -> None:
    """Log only the first ``n`` times; "the same message" is judged by caller, by text, or by both.

    Args:
        lvl: logging level.
        msg: text.
        n: how often it may appear.
        name: logger to use; the caller's module by default.
        key: "caller", "message" or a tuple of both.
    """
    kinds = (key,) if isinstance(key, str) else tuple(key)
    assert kinds, "log_first_n needs at least one of 'caller' and 'message' as key"
    module, place = _find_caller()
    identity: tuple[Any, ...] = (place if "caller" in kinds else ()) + ((msg,) if "message" in kinds else ())
    _SEEN[identity] += 1
    if _SEEN[identity] <= n:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log the 1st, (n+1)-th, (2n+1)-th … call of one place in the code."""
    module, place = _find_caller()
    _SEEN[place] += 1
    if (_SEEN[place] - 1) % n == 0:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log at most once in ``n`` seconds per place in the code."""
    module, place = _find_caller()
    now = time.time()
    if place not in _LAST_TIME or now - _LAST_TIME[place] >= n:
        logging.getLogger(name or module).log(lvl, msg)
        _LAST_TIME[place] = now
