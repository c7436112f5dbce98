import pytest
import torch
from torch.nn import functional as F

from possam.necks import ResampledPyramid


@pytest.mark.parametrize("in_stride", [4, 8, 16, 32])
def test_strides_and_channels(in_stride):
    pyramid = ResampledPyramid(in_channels=6, channels=12, in_stride=in_stride)
    maps = pyramid(torch.randn(2, 6, 128 // in_stride, 96 // in_stride))
    assert {stride: tuple(x.shape) for stride, x in maps.items()} == {
        stride: (2, 12, 128 // stride, 96 // stride) for stride in (4, 8, 16, 32)
    }


def test_equals_resampling_first_and_projecting_then():
    pyramid = ResampledPyramid(in_channels=6, channels=4, in_stride=16)
    x = torch.randn(2, 6, 5, 8)
    resampled = {
        4: F.interpolate(x, scale_factor=4, mode="bilinear"),
        8: F.interpolate(x, scale_factor=2, mode="bilinear"),
        16: x,
        32: torch.stack([x[:, :, a : a + 2, b : b + 2].mean((2, 3)) for a in (0, 2, 4) for b in (0, 2, 4, 6)], -1),
    }
    resampled[32] = resampled[32].unflatten(-1, (3, 4))  # the last row of an odd height is a mean of one
    for stride, result in pyramid(x).items():
        expected = pyramid.projections[str(stride)](resampled[stride])
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_it_learns_one_projection_a_stride_and_nothing_else():
    pyramid = ResampledPyramid(in_channels=6, channels=4, in_stride=16)
    assert {tuple(p.shape) for p in pyramid.parameters()} == {(4, 6, 1, 1), (4,)}
    assert len(list(pyramid.parameters())) == 8
    sum((x * torch.randn_like(x)).sum() for x in pyramid(torch.randn(1, 6, 4, 4)).values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pyramid.parameters())


def test_wrong_settings_and_inputs():
    with pytest.raises(ValueError, match="in_stride must be one of .*but got 14"):
        ResampledPyramid(in_channels=6, channels=4, in_stride=14)
    with pytest.raises(ValueError, match=r"out_strides must be some of .*but got \(2,\)"):
        ResampledPyramid(in_channels=6, channels=4, in_stride=16, out_strides=(2,))
    with pytest.raises(ValueError, match=r"B×6×h×w features, but got shape \(6, 4, 4\)"):
        ResampledPyramid(in_channels=6, channels=4, in_stride=16)(torch.zeros(6, 4, 4))
