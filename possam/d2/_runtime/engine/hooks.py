"""What training does beside its steps."""

import datetime
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.timer import Timer

from ..evaluation.testing import flatten_results_dict
from ..solver import LRScheduler as _TorchScheduler
from ..utils import comm
from ..utils.events import EventWriter
from ..utils.logger import runtime_logger
from .train_loop import HookBase

__all__ = ["EvalHook", "IterationTimer", "LRScheduler", "PeriodicCheckpointer", "PeriodicWriter"]

logger = runtime_logger(__name__)


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))


class IterationTimer(HookBase):
    """Records the seconds of each step as "time", and reports the pace at the end."""

    def __init__(self, warmup_iter: int = 3):
        """The first ``warmup_iter`` steps, slowed by start-up, are left out."""
        self._warmup_iter = warmup_iter
        self._step_timer = Timer()
        self._steps_timer = Timer()
        self._start = time.perf_counter()

    def before_train(self) -> None:
        self._start = time.perf_counter()
        self._steps_timer.reset()
        self._steps_timer.pause()

    def before_step(self) -> None:
        self._step_timer.reset()
        self._steps_timer.resume()

    def after_step(self) -> None:
        done = self.trainer.storage.iter - self.trainer.start_iter + 1
        if done >= self._warmup_iter:
            self.trainer.storage.put_scalars(time=self._step_timer.seconds())
        else:
            self._start = time.perf_counter()
            self._steps_timer.reset()
        self._steps_timer.pause()

    def after_train(self) -> None:
        total, in_steps = time.perf_counter() - self._start, self._steps_timer.seconds()
        counted = self.trainer.storage.iter + 1 - self.trainer.start_iter - self._warmup_iter
        if counted > 0 and in_steps > 0:
            logger.info(f"{counted} iterations in {_duration(in_steps)} ({in_steps / counted:.4f} s / it)")
        logger.info(f"Total training time: {_duration(total)} ({_duration(total - in_steps)} on hooks)")


class PeriodicWriter(HookBase):
    """Lets writers write every ``period`` iterations and at the end, and closes them."""

    def __init__(self, writers: list[EventWriter], period: int = 20):
        for writer in writers:
            assert isinstance(writer, EventWriter), f"{type(writer)} is not an EventWriter"
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            # Once more: hooks before this one may have added results of a last evaluation.
            writer.write()
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """fvcore's `PeriodicCheckpointer` as a hook."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class LRScheduler(HookBase):
    """Steps the trainer's scheduler after every iteration, and records the learning rate as "lr"."""

    def before_train(self) -> None:
        self._optimizer = self.trainer.optimizer
        self._group = LRScheduler.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """The group whose rate to report: the largest, or, where all hold one parameter, one of the commonest rate."""
        groups = optimizer.param_groups
        largest = max(range(len(groups)), key=lambda index: len(groups[index]["params"]))
        if len(groups[largest]["params"]) > 1:
            return largest
        rates = [group["lr"] for group in groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        rate = self._optimizer.param_groups[self._group]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    @property
    def scheduler(self) -> Any:
        """The scheduler in use."""
        return self.trainer.scheduler

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict() if isinstance(self.scheduler, _TorchScheduler) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if isinstance(self.scheduler, _TorchScheduler):
            self.scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Evaluates every ``eval_period`` iterations and at the end, and records the numbers.

    All processes must register it alike, since they wait for one another.
    """

    def __init__(self, eval_period: int, eval_function: Callable[[], Any]):
        """
        Args:
            eval_period: 0 evaluates at the end only.
            eval_function: returns a nested dict of numbers, or nothing.
        """
        self._period = eval_period
        self._func: Callable[[], Any] | None = eval_function

    def _evaluate(self) -> None:
        assert self._func is not None, "training is over"
        results = self._func()
        if results:
            assert isinstance(results, dict), f"an evaluation returns a dict, but {type(results)} came"
            numbers = {name: float(value) for name, value in flatten_results_dict(results).items()}
            self.trainer.storage.put_scalars(**numbers, smoothing_hint=False)
        # The main process may need longer; the others must not run into the next step's timeout unawares.
        comm.synchronize()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._evaluate()

    def after_train(self) -> None:
        # Not after an interrupted run, whose iteration is lower.
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._evaluate()
        self._func = None  # a closure that holds the trainer would keep it alive
