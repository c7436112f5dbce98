"""The fast linear layer says what the framework's says, and keeps away from what needs gradients or another type."""

import pytest
import torch
import torch.nn.functional as F

from possam.encoders import linear as room
from possam.encoders.linear import fast_linear, linear


@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 4, 8), (0, 8)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize("onednn", [True, False])
def test_equals_the_framework(monkeypatch, shape, bias, gelu, onednn):
    monkeypatch.setattr(room, "HAS_ONEDNN", room.HAS_ONEDNN and onednn)
    torch.manual_seed(0)
    x, weight, offset = torch.randn(shape), torch.randn(8, 6).T, torch.randn(6) if bias else None  # not dense
    expected = F.linear(x, weight, offset)
    assert torch.allclose(linear(x, weight, offset, gelu=gelu), F.gelu(expected) if gelu else expected, atol=1e-5)


def test_low_precision_is_that_of_the_input():
    x, weight, bias = torch.randn(4, 8).bfloat16(), torch.randn(6, 8), torch.randn(6)
    found = linear(x, weight, bias)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), F.linear(x.float(), weight, bias), atol=0.1)


@pytest.fixture
def calls(monkeypatch):
    made = []
    monkeypatch.setattr(room, "linear", lambda *args: made.append(args) or linear(*args))
    return made


def test_takes_the_place_of_the_frameworks(calls):
    layer, x = torch.nn.Linear(8, 6), torch.randn(4, 8)
    with torch.no_grad(), fast_linear():
        found = layer(x)
    assert len(calls) == 1
    assert torch.allclose(found, layer(x), atol=1e-6)
    assert len(calls) == 1  # outside, nothing is changed


def test_leaves_gradients_and_autocast_alone(calls):
    layer, x = torch.nn.Linear(8, 6), torch.randn(4, 8)
    with fast_linear():
        assert layer(x).requires_grad
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
    assert not calls
