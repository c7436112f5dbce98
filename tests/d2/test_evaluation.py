"""Evaluators of the built-in runtime."""

import pytest
from torch import nn

from possam.d2._runtime.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    flatten_results_dict,
    inference_context,
)


class Total(DatasetEvaluator):
    def __init__(self, task):
        self.task = task
        self.total = 100

    def reset(self):
        self.total = 0

    def process(self, inputs, outputs):
        self.total += sum(outputs) - sum(inputs)

    def evaluate(self):
        return {self.task: {"total": self.total}}


def test_several_evaluators_see_every_batch():
    evaluators = DatasetEvaluators([Total("a"), Total("b")])
    evaluators.reset()
    evaluators.process([1, 2], [2, 4])
    evaluators.process([3], [6])
    assert evaluators.evaluate() == {"a": {"total": 6}, "b": {"total": 6}}


def test_two_evaluators_cannot_report_one_task():
    with pytest.raises(AssertionError, match="a"):
        DatasetEvaluators([Total("a"), Total("a")]).evaluate()


def test_the_mode_is_restored_after_an_error():
    model = nn.Linear(1, 1).train()
    with pytest.raises(KeyError), inference_context(model):
        assert not model.training
        raise KeyError
    assert model.training


def test_results_are_flattened():
    assert flatten_results_dict({"a": {"b": {"c": 1}, "d": 2}}) == {"a/b/c": 1, "a/d": 2}
