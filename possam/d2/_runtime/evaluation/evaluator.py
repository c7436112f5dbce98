"""The evaluators' interface, and the mode in which models are evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..utils.comm import is_main_process

__all__ = ["DatasetEvaluator", "DatasetEvaluators", "inference_context"]


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


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in eval mode; afterwards it is as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
