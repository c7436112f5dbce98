"""Logging set up once per process.

The runtime's loggers are named ``detectron2.…`` as Detectron2's are, so that one `setup_logger` call and one filter
serve both backends.
"""

import functools
import logging
import os
import sys
from typing import Any

from termcolor import colored

from .file_io import PathManager

_RUNTIME = __name__.rsplit(".", 2)[0]
_TIME_FORMAT = "%m/%d %H:%M:%S"


def runtime_logger(module_name: str) -> logging.Logger:
    """The logger of a runtime module, under the name Detectron2 gives that module."""
    return logging.getLogger(module_name.replace(_RUNTIME, "detectron2"))


@functools.lru_cache  # a second call with the same arguments must not add a second set of handlers
def setup_logger(
    output: str | None = None, distributed_rank: int = 0, *, color: bool = True, name: str = "detectron2",
    abbrev_name: str | None = None, enable_propagation: bool = False, configure_stdout: bool = True,
) -> logging.Logger:
    """Send everything from DEBUG up of logger ``name`` to the terminal (rank 0) and to a file (every rank).

    Args:
        output: a ``.txt``/``.log`` file, or a folder that gets ``log.txt``; None writes no file. Ranks above 0
            append ``.rankN`` to the name.
        distributed_rank: rank of this process.
        color: paint the terminal's lines.
        name: the logger to configure.
        abbrev_name: shown in color for the name; by default "d2" for "detectron2", else ``name`` itself.
        enable_propagation: also hand records to parent loggers.
        configure_stdout: False leaves the terminal alone.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    plain = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"
    if configure_stdout and distributed_rank == 0:
        short = abbrev_name if abbrev_name is not None else {"detectron2": "d2"}.get(name, name)
        painted = colored(f"[%(asctime)s {short} %(levelname)s]: ", "green") + "%(message)s"
        terminal = logging.StreamHandler(stream=sys.stdout)
        terminal.setFormatter(logging.Formatter(painted if color else plain, datefmt=_TIME_FORMAT))
        logger.addHandler(terminal)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        file = logging.StreamHandler(_log_stream(f"{path}.rank{distributed_rank}" if distributed_rank else path))
        file.setFormatter(logging.Formatter(plain, datefmt=_TIME_FORMAT))
        logger.addHandler(file)
    return logger


@functools.cache  # two loggers that write to one file share one handle
def _log_stream(path: str) -> Any:
    PathManager.mkdirs(os.path.dirname(path) or ".")
    return PathManager.open(path, "a", encoding="utf-8")
