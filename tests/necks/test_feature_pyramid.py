import pytest
import torch
from torch import nn

from possam.layers import LayerNorm2d
from possam.necks import FeaturePyramid


@pytest.mark.parametrize("in_stride", [4, 8, 16, 32])
def test_strides_and_channels(in_stride):
    pyramid = FeaturePyramid(in_channels=16, channels=12, in_stride=in_stride)
    maps = pyramid(torch.randn(2, 16, 128 // in_stride, 96 // in_stride))
    assert {stride: tuple(x.shape) for stride, x in maps.items()} == {
        stride: (2, 12, 128 // stride, 96 // stride) for stride in (4, 8, 16, 32)
    }


def test_odd_sizes_round_up_and_never_vanish():
    pyramid = FeaturePyramid(in_channels=8, channels=8, in_stride=16)
    assert pyramid(torch.randn(1, 8, 1, 5))[32].shape[-2:] == (1, 3)
    pyramid = FeaturePyramid(in_channels=8, channels=8, in_stride=8)
    assert pyramid(torch.randn(1, 8, 9, 3))[32].shape[-2:] == (3, 1)


def test_layers_are_those_of_vitdet():
    stages = FeaturePyramid(in_channels=16, channels=12, in_stride=16).stages
    kinds = {stride: [type(part) for part in stage] for stride, stage in stages.items()}
    tail = [nn.Conv2d, LayerNorm2d, nn.Conv2d, LayerNorm2d]
    deconvolution = nn.ConvTranspose2d
    assert kinds == {
        "4": [deconvolution, LayerNorm2d, nn.GELU, deconvolution, *tail],
        "8": [deconvolution, *tail],
        "16": tail,
        "32": [nn.MaxPool2d, *tail],
    }
    assert stages["4"][3].out_channels == 4 and stages["8"][0].out_channels == 8


def test_gradients_reach_every_parameter():
    pyramid = FeaturePyramid(in_channels=16, channels=8, in_stride=16)
    maps = pyramid(torch.randn(1, 16, 4, 4))
    # of squares weighted at random: LayerNorm makes plain sums constant
    sum((x * torch.randn_like(x)).square().sum() for x in maps.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pyramid.parameters())


def test_autocast():
    pyramid = FeaturePyramid(in_channels=16, channels=8, in_stride=16)
    x = torch.randn(1, 16, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = pyramid(x)
    for stride, expected in pyramid(x).items():
        torch.testing.assert_close(maps[stride].float(), expected, atol=0.1, rtol=0.1)


def test_wrong_settings_and_inputs():
    with pytest.raises(ValueError, match="in_stride must be one of .*but got 14"):
        FeaturePyramid(in_channels=16, channels=8, in_stride=14)
    with pytest.raises(ValueError, match=r"out_strides must be some of .*but got \(2, 4\)"):
        FeaturePyramid(in_channels=16, channels=8, in_stride=16, out_strides=(2, 4))
    with pytest.raises(ValueError, match="divisible by 4, .*but got 6"):
        FeaturePyramid(in_channels=6, channels=8, in_stride=16)
    with pytest.raises(ValueError, match=r"B×16×h×w features, but got shape \(1, 8, 4, 4\)"):
        FeaturePyramid(in_channels=16, channels=8, in_stride=16)(torch.zeros(1, 8, 4, 4))
