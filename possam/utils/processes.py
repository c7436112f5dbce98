"""Processes that multiprocessing starts: they must not outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.process import BaseProcess

__all__ = ["end_with_parent"]


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, even if that was killed; call it first.

    It works with every start method: unlike the parent's id or its death signal, the pipe that is watched belongs to
    the process that asked for this one, not to a fork server between them, and is closed already if that is gone.
    Data loaders and pools do not notice by themselves: they wait for work that never comes.
    """
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_after, args=(parent,), name="end_with_parent", daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
