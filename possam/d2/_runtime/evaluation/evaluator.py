"""What an evaluator is, and the loop that feeds it."""

import datetime
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from ..utils.comm import get_world_size, is_main_process
from ..utils.logger import log_every_n_seconds, runtime_logger

__all__ = ["DatasetEvaluator", "DatasetEvaluators", "inference_context", "inference_on_dataset"]

logger = runtime_logger(__name__)


class DatasetEvaluator:
    """Collects what it needs of every pair of inputs and outputs, and judges at the end."""

    def reset(self) -> None:
        """Get ready for a new round."""

    def process(self, inputs: Any, outputs: Any) -> None:
        """Take one batch: the model's inputs, and its outputs, in the same order."""

    def evaluate(self) -> Any:
        """Judge the round: {task: {metric: value}} on the main process, anything on the others."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one; no two may report the same task."""

    def __init__(self, evaluators: Any):
        super().__init__()
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> Any:
        results: OrderedDict[str, Any] = OrderedDict()
        for evaluator in self._evaluators:
            # Every process evaluates, since evaluators exchange data; the main one reports.
            partial = evaluator.evaluate()
            if is_main_process() and partial is not None:
                twice = results.keys() & partial.keys()
                assert not twice, f"several evaluators report {sorted(twice)}"
                results.update(partial)
        return results


class _Stopwatch:
    """Mean seconds of the parts of a loop, without its first rounds."""

    def __init__(self, warmup: int):
        self._warmup = warmup
        self._rounds = 0
        self._spent = {"data": 0.0, "compute": 0.0, "eval": 0.0}
        self._begin = self._mark = time.perf_counter()

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self._spent[part] += now - self._mark
        self._mark = now

    def round_done(self) -> None:
        self._rounds += 1
        if self._rounds == self._warmup:
            self._spent = dict.fromkeys(self._spent, 0.0)
            self._begin = time.perf_counter()

    @property
    def counted(self) -> int:
        return self._rounds - self._warmup if self._rounds > self._warmup else max(self._rounds, 1)

    def mean(self, part: str) -> float:
        return self._spent[part] / self.counted

    def total(self) -> float:
        return time.perf_counter() - self._begin

    def report(self, done: int, total: int) -> str:
        pace = self.total() / self.counted
        left = datetime.timedelta(seconds=int(pace * (total - done)))
        parts = ", ".join(f"{part} {self.mean(part):.4f}" for part in self._spent)
        return f"Inference done {done}/{total}. {pace:.4f} s / iter ({parts}). ETA={left}"


def inference_on_dataset(
    model: Any,
    data_loader: Any,
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
    callbacks: dict[str, Callable[[], None]] | None = None,
) -> dict[str, Any]:
    """Run a model, in eval mode and without gradients, over a loader with a length, and evaluate.

    Args:
        model: a function of a batch; a module's mode is restored afterwards.
        data_loader: gives batches.
        evaluator: one, a list, or None only to run the model.
        callbacks: functions for "on_start", "before_inference", "after_inference" and "on_end".

    Returns:
        What the evaluator reports, or {} where it reports nothing.
    """
    hooks = callbacks or {}
    if evaluator is None:
        evaluator = DatasetEvaluators([])
    elif isinstance(evaluator, MutableSequence):
        evaluator = DatasetEvaluators(evaluator)
    total = len(data_loader)
    logger.info(f"Start inference on {total} batches")
    evaluator.reset()

    def call(name: str) -> None:
        if name in hooks:
            hooks[name]()

    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(inference_context(model))
        stack.enter_context(torch.no_grad())
        watch = _Stopwatch(warmup=max(min(5, total - 1), 0))
        call("on_start")
        for index, inputs in enumerate(data_loader):
            watch.lap("data")
            call("before_inference")
            outputs = model(inputs)
            call("after_inference")
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # otherwise the clock stops before the work does
            watch.lap("compute")
            evaluator.process(inputs, outputs)
            watch.lap("eval")
            watch.round_done()
            if index >= 10 or watch.mean("compute") > 5:
                log_every_n_seconds(logging.INFO, watch.report(index + 1, total), n=5)
        call("on_end")
    seconds, processes = watch.total(), get_world_size()
    logger.info(
        f"Total inference time: {datetime.timedelta(seconds=seconds)} "
        f"({seconds / watch.counted:.6f} s / iter per device, on {processes} devices); "
        f"pure compute {watch.mean('compute'):.6f} s / iter"
    )
    results = evaluator.evaluate()
    return {} if results is None else results


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in eval mode; afterwards it is as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
