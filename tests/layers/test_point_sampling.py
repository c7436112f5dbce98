import math

import pytest
import torch

from possam.layers import point_sample, sample_uncertain_points


def plain_bilinear(image, x, y):
    """Value of an h×w map at (x, y) in [0, 1]²; zero beyond the border."""
    height, width = image.shape
    px, py = x * width - 0.5, y * height - 0.5
    value = 0.0
    for row in (math.floor(py), math.floor(py) + 1):
        for column in (math.floor(px), math.floor(px) + 1):
            if 0 <= row < height and 0 <= column < width:
                value += (1 - abs(py - row)) * (1 - abs(px - column)) * image[row, column].item()
    return value


def test_point_sample_is_bilinear():
    torch.manual_seed(0)
    maps, points = torch.randn(2, 3, 5, 7), torch.rand(2, 11, 2)
    values = point_sample(maps, points)
    assert values.shape == (2, 3, 11)
    for n in range(2):
        for c in range(3):
            for p in range(11):
                expected = plain_bilinear(maps[n, c], *points[n, p].tolist())
                assert values[n, c, p].item() == pytest.approx(expected, abs=1e-5)


def test_points_are_x_then_y():
    maps = torch.zeros(1, 1, 4, 8)
    maps[0, 0, 1, 6] = 1.0
    centre = torch.tensor([[[(6 + 0.5) / 8, (1 + 0.5) / 4]]])
    assert point_sample(maps, centre).item() == pytest.approx(1.0)


def test_uncertain_points_gather_at_the_border_of_a_mask():
    torch.manual_seed(0)
    column = torch.linspace(-8, 8, 32)
    mask_logits = column.expand(3, 32, 32).contiguous()  # undecided at x = 1/2
    points = sample_uncertain_points(mask_logits, points=400)
    assert points.shape == (3, 400, 2) and points.min() >= 0 and points.max() <= 1
    distance = (points[..., 0] - 0.5).abs()
    # the 300 nearest of 1200 uniform candidates lie within 1/8 of the border, but for chance; samples beyond
    # the outermost pixel centres fade to zero, which counts as undecided too
    rim = ((points - 0.5).abs() > 0.5 - 0.5 / 32).any(-1)
    assert ((distance < 0.17) | rim)[:, :300].all() and rim[:, :300].float().mean() < 0.2
    assert 0.15 < (distance[:, 300:] > 0.25).float().mean() < 0.85
    assert (points[:, :300, 1].std(1) > 0.2).all()


def test_without_importance_points_are_uniform():
    torch.manual_seed(0)
    column = torch.linspace(-8, 8, 32)
    points = sample_uncertain_points(column.expand(1, 32, 32), points=2000, importance=0.0)
    assert abs((points[0, :, 0] < 0.25).float().mean() - 0.25) < 0.05


def test_no_masks_give_no_points():
    assert sample_uncertain_points(torch.zeros(0, 8, 8), points=16).shape == (0, 16, 2)
