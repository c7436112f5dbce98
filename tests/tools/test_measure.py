"""Multiply-adds, counted."""

import measure
import pytest
import torch
from torch import nn

from possam.layers.linear import Linear


class Model(nn.Module):
    takes_prompts = False

    def __init__(self):
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 8, 3, padding=1), Linear(512, 1024)

    def propose(self, inputs):
        self.convolution(inputs[0]["image"][None])
        self.linear(torch.zeros(2, 64, 512))


def test_convolutions_and_linear_layers_are_counted():
    found = measure.count_multiply_adds(Model(), {"image": torch.zeros(3, 10, 20)})
    assert found["Conv2d"] == pytest.approx(10 * 20 * 8 * 3 * 9 / 1e9)
    assert found["Linear"] == pytest.approx(2 * 64 * 512 * 1024 / 1e9)
    assert found["total"] == pytest.approx(found["Conv2d"] + found["Linear"])


def test_a_model_that_takes_prompts_gets_a_point():
    class Prompted(Model):
        takes_prompts = True

        def propose(self, inputs):
            assert inputs[0]["prompts"].points.tolist() == [[[10.0, 5.0]]]
            super().propose(inputs)

    assert measure.count_multiply_adds(Prompted(), {"image": torch.zeros(3, 10, 20)})["total"] > 0
