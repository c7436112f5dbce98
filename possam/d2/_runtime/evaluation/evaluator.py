"""What an evaluator is, and the loop that feeds it."""

import datetime
import logging
import time
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager, nullcontext
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
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> Any:
        results: dict[str, Any] = {}
        for evaluator in self._evaluators:
            # Every process evaluates, since evaluators exchange data; the main one reports.
            partial = evaluator.evaluate()
            if is_main_process() and partial is not None:
                twice = results.keys() & partial.keys()
                assert not twice, f"several evaluators report {sorted(twice)}"
                results.update(partial)
        return results


def inference_on_dataset(
    model: Any, data_loader: Any, evaluator: Any, callbacks: dict[str, Callable[[], None]] | None = None
) -> dict[str, Any]:
    """Run a model, in eval mode and without gradients, over a loader with a length, and evaluate.

    Args:
        model: a function of a batch; a module's mode is restored afterwards.
        data_loader: gives batches.
        evaluator: a `DatasetEvaluator`, a list of them, or None only to run the model.
        callbacks: functions for "on_start", "before_inference", "after_inference" and "on_end".

    Returns:
        What the evaluator reports, or {} where it reports nothing.
    """
    if evaluator is None or isinstance(evaluator, MutableSequence):
        evaluator = DatasetEvaluators(evaluator or [])
    total = len(data_loader)
    logger.info(f"Start inference on {total} batches")
    evaluator.reset()

    def call(name: str) -> None:
        (callbacks or {}).get(name, lambda: None)()

    start, compute = time.perf_counter(), 0.0
    with inference_context(model) if isinstance(model, nn.Module) else nullcontext(), torch.no_grad():
        call("on_start")
        for done, inputs in enumerate(data_loader, start=1):
            before = time.perf_counter()
            call("before_inference")
            outputs = model(inputs)
            call("after_inference")
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # otherwise the clock stops before the work does
            compute += time.perf_counter() - before
            evaluator.process(inputs, outputs)
            pace = (time.perf_counter() - start) / done
            left = datetime.timedelta(seconds=int(pace * (total - done)))
            message = f"Inference done {done}/{total}. {pace:.4f} s / iter (model: {compute / done:.4f}). ETA={left}"
            log_every_n_seconds(logging.INFO, message, n=5)
        call("on_end")
    seconds = time.perf_counter() - start
    logger.info(f"Total inference time: {seconds:.1f} s, {compute:.1f} s in the model, on {get_world_size()} devices")
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
