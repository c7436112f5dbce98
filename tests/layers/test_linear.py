"""oneDNN's linear layers say what the framework's do, forwards and backwards."""

import pytest
import torch
from torch.nn import functional as F

from possam.layers import Linear
from possam.layers import linear as room
from possam.layers.linear import linear, product

MANY = 300  # rows: 300 × 128 × 128 multiplications are worth a call of oneDNN


@pytest.fixture
def calls(monkeypatch):
    """How often oneDNN was asked."""
    asked, multiply = [], room.multiply
    monkeypatch.setattr(room, "multiply", lambda *args: asked.append(args) or multiply(*args))
    return asked


def pair(*shape, bias=True):
    torch.manual_seed(0)
    layer = Linear(128, 128, bias=bias)
    return layer, torch.randn(*shape, 128)


@pytest.mark.skipif(not room.HAS_ONEDNN, reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(MANY,), (2, MANY), (2, 3, 100)])
def test_values_and_gradients(calls, shape, bias):
    layer, x = pair(*shape, bias=bias)
    results = []
    for function in (layer, lambda x: F.linear(x, layer.weight, layer.bias)):
        copy = x.clone().requires_grad_()
        y = function(copy)
        weights = torch.linspace(-1, 1, y.numel()).view_as(y)
        results.append([y, *torch.autograd.grad((y * weights).sum(), [copy, *layer.parameters()])])
    assert len(calls) == 3  # forwards, and for both factors backwards
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5 * theirs.abs().max().item())


def test_parts_of_a_weight_and_of_an_input(calls):
    """As attention has them: rows of one weight; and a gradient that is no dense tensor."""
    layer, whole = pair(2, 3 * MANY)
    for x in (whole[:, ::3], whole.transpose(0, 1)[::3]):
        weight = layer.weight.T[:, 32:].T
        y = linear(x, weight)
        torch.testing.assert_close(y, F.linear(x, weight), rtol=1e-5, atol=1e-5)
        (gradient,) = torch.autograd.grad(y.transpose(0, 1).sum(), layer.weight)
        (expected,) = torch.autograd.grad(F.linear(x, weight).sum(), layer.weight)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.skipif(not room.HAS_ONEDNN, reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_products(calls, batch):
    """Also of factors whose own memory lies the other way round; small ones are the framework's."""
    torch.manual_seed(0)
    x, y = torch.randn(batch, MANY, 128, requires_grad=True), torch.randn(batch, 128, 128)
    for other in (y, y.mT.contiguous().mT):
        found = product(x, other)
        torch.testing.assert_close(found, x.detach() @ other, rtol=1e-5, atol=1e-4)
        assert not found.requires_grad
    assert len(calls) == 2 * batch
    assert product(x[:, :4], y).shape == (batch, 4, 128) and len(calls) == 2 * batch


def test_what_is_not_worth_it_or_of_another_kind_goes_the_framework_s_way(calls):
    layer, x = pair(4)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    layer, x = pair(MANY)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    assert layer.to("meta")(x.to("meta")).device.type == "meta"
    assert not calls


def test_nothing_at_all():
    layer, x = pair(0)
    assert layer(x).shape == (0, 128)
