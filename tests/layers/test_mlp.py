import pytest
import torch

from possam.layers import MLP


def test_relu_between_layers_only():
    mlp = MLP(3, 5, 2, 3)
    x = torch.randn(4, 7, 3)
    a, b, c = mlp.layers
    assert (a.out_features, b.out_features, c.out_features) == (5, 5, 2)
    torch.testing.assert_close(mlp(x), c(b(a(x).clamp(min=0)).clamp(min=0)))
    assert (mlp(x) < 0).any()


def test_one_layer_is_linear():
    mlp = MLP(3, 99, 2, 1)
    x = torch.randn(4, 3)
    torch.testing.assert_close(mlp(x), mlp.layers[0](x))


def test_no_layer_is_refused():
    with pytest.raises(ValueError, match="layers=0"):
        MLP(3, 5, 2, 0)
