"""Inference over datasets with the built-in runtime."""

import logging

import pytest
import torch
from torch import nn

from possam.d2._runtime.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    flatten_results_dict,
    inference_context,
    inference_on_dataset,
    print_csv_format,
)


class Doubler(nn.Module):
    def forward(self, batch):
        assert not self.training and not torch.is_grad_enabled()
        return [2 * item for item in batch]


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


def test_every_batch_is_evaluated_and_the_mode_restored():
    model, calls = Doubler().train(), []
    callbacks = {name: lambda name=name: calls.append(name) for name in ("on_start", "before_inference", "on_end")}
    results = inference_on_dataset(model, [[1, 2], [3]], [Total("a"), Total("b")], callbacks)
    assert results == {"a": {"total": 6}, "b": {"total": 6}}
    assert model.training and calls == ["on_start", "before_inference", "before_inference", "on_end"]
    assert inference_on_dataset(model, [[1]], None) == {}


def test_two_evaluators_cannot_report_one_task():
    with pytest.raises(AssertionError, match="a"):
        DatasetEvaluators([Total("a"), Total("a")]).evaluate()


def test_the_mode_is_restored_after_an_error():
    model = Doubler().train()
    with pytest.raises(KeyError), inference_context(model):
        assert not model.training
        raise KeyError
    assert model.training


def test_results_are_flattened_and_printed_without_classes(monkeypatch):
    assert flatten_results_dict({"a": {"b": {"c": 1}, "d": 2}}) == {"a/b/c": 1, "a/d": 2}
    lines = []
    monkeypatch.setattr(logging.getLogger("detectron2.evaluation.testing"), "info", lines.append)
    print_csv_format({"segm": {"AP": 1.23456, "AP-cat": 9.0, "AP50": 2.0}})
    assert lines == ["copypaste: Task: segm", "copypaste: AP,AP50", "copypaste: 1.2346,2.0000"]
