"""Runs that are told to make room: they save, and end with a code that says to start them again.

Slurm, torchrun, containers and systemd tell it by SIGTERM; Slurm's --signal mostly by SIGUSR1, submitit by SIGUSR2.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from possam.d2.engine import HookBase
from possam.d2.utils import comm
from possam.engine.checkpoint import Checkpointer

__all__ = ["EXIT_CODE", "SIGNALS", "Preempted", "Preemption", "handling", "preemptible"]

logger = logging.getLogger(__name__)

EXIT_CODE = 75
"""Of a run that made room: EX_TEMPFAIL of sysexits.h, "try again later"."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""What tells a run to make room."""

_ONE = 1.0
"""Seconds in which equal signals are one: a scheduler and the parent process may both send it."""


class Preempted(SystemExit):
    """Ends this process with `EXIT_CODE`: the run is to be started again, and with --resume goes on."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Preemption(HookBase):
    """Saves a checkpoint and ends the run after a step in which any of its processes was told to make room.

    The same signal again, a second later or more, ends its process at once. Register it behind the learning rate's
    schedule, whose state is to be that after the step, and ahead of what takes long, such as an evaluation.
    """

    def __init__(self, checkpointer: Checkpointer) -> None:
        self._checkpointer = checkpointer
        self._first: dict[int, float] = {}
        self._group: Any = None
        self._handlers = ExitStack()

    def before_train(self) -> None:
        if comm.get_world_size() > 1 and dist.get_backend() != "gloo":
            self._group = dist.new_group(backend="gloo")  # to agree must not wait for what the GPU has still to do
        self._handlers.enter_context(handling(self._note))

    def after_step(self) -> None:
        step = self.trainer.iter
        if not self._told() or step + 1 >= self.trainer.max_iter:
            return  # the last step is saved as model_final
        name = f"model_{step:07d}"
        self._checkpointer.save(name, iteration=step)
        comm.synchronize()  # whoever leaves before the file is whole has the others killed
        logger.warning("The run was told to make room: it is saved as %s and goes on with --resume.", name)
        raise Preempted

    def after_train(self) -> None:
        # To ask waits for all processes, and so for model_final to be whole.
        ends = self.trainer.iter >= self.trainer.max_iter and self._told()
        self._handlers.close()
        if ends:
            logger.warning("The run was told to make room: training is done, its evaluation follows with --resume.")
            raise Preempted

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._first.setdefault(number, now) > _ONE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _told(self) -> bool:
        """Whether any process was."""
        if comm.get_world_size() == 1:
            return bool(self._first)
        told = torch.tensor(len(self._first))
        dist.all_reduce(told, group=self._group)
        return bool(told)


@contextmanager
def preemptible() -> Iterator[None]:
    """Inside, being told to make room ends this process with `EXIT_CODE`: at once, where no `Preemption` takes over."""
    with handling(_end):
        yield


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, `handler` is called with each of `SIGNALS`; afterwards who was called before. In the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _end(number: int, frame: FrameType | None) -> None:
    raise Preempted
