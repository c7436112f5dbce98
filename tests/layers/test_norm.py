import torch

from possam.layers import LayerNorm2d


def test_normalizes_each_position_over_channels():
    norm = LayerNorm2d(6)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    x = torch.randn(2, 6, 3, 5) * 4 + 1
    output = norm(x)
    assert output.shape == x.shape
    column = x[1, :, 2, 4]
    expected = (column - column.mean()) / (column.var(unbiased=False) + 1e-6).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(output[1, :, 2, 4], expected)


def test_is_a_norm_for_optimizers():
    assert isinstance(LayerNorm2d(4), torch.nn.LayerNorm)
