"""Save a run that the scheduler asks to stop, and end it with a code that says to start it again.

Slurm, torchrun, containers and systemd ask by SIGTERM; Slurm's --signal mostly by SIGUSR1, submitit by SIGUSR2.
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
"""Exit code of a run that stopped on such a signal: EX_TEMPFAIL of sysexits.h, "try again later"."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Signals that ask a run to stop."""

_ONE = 1.0
"""Seconds in which equal signals are one: a scheduler and the parent process may both send it."""


class Preempted(SystemExit):
    """Ends this process with `EXIT_CODE`: the run is to be started again, and with --resume goes on."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Preemption(HookBase):
    """Saves a checkpoint and ends the run after a step in which any of its processes was asked to stop.

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
            self._group = dist.new_group(backend="gloo")  # so that agreement does not wait for the GPU
        self._handlers.enter_context(handling(self._note))

    def after_step(self) -> None:
        step = self.trainer.iter
        if not self._stopping() or step + 1 >= self.trainer.max_iter:
            return  # the last step is saved as model_final
        name = f"model_{step:07d}"
        self._checkpointer.save(name, iteration=step)
        comm.synchronize()  # a process that ends before the file is whole has the others killed
        logger.warning("A signal asked the run to stop: it is saved as %s and goes on with --resume.", name)
        raise Preempted

    def after_train(self) -> None:
        # The reduction waits for all processes, and so for model_final to be whole.
        ends = self.trainer.iter >= self.trainer.max_iter and self._stopping()
        self._handlers.close()
        if ends:
            logger.warning("A signal asked the run to stop: training is done, its evaluation follows with --resume.")
            raise Preempted

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._first.setdefault(number, now) > _ONE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _stopping(self) -> bool:
        """Return whether any process was asked to stop."""
        if comm.get_world_size() == 1:
            return bool(self._first)
        told = torch.tensor(len(self._first))
        dist.all_reduce(told, group=self._group)
        return bool(told)


@contextmanager
def preemptible() -> Iterator[None]:
    """Let each of `SIGNALS` end this process with `EXIT_CODE`, at once unless a `Preemption` handles it."""
    with handling(_end):
        yield


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handler` on each of `SIGNALS`, in the main thread only; restore the handlers after the context."""
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
