import math

import pytest
import torch

from possam.layers import point_sample
from possam.layers.point_sampling import draw_points, most_uncertain


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
    center = torch.tensor([[[(6 + 0.5) / 8, (1 + 0.5) / 4]]])
    assert point_sample(maps, center).item() == pytest.approx(1.0)


def test_points_are_uniform_and_run_from_top_to_bottom():
    first, second = draw_points([3, 4], [4000, 7], "cpu")
    assert first.shape == (2, 4000, 2) and second.shape == (2, 7, 2)
    assert (first[:, 1:, 1] >= first[:, :-1, 1]).all()
    for image in first:
        cells = torch.histogramdd(image, bins=[4, 4], range=[0.0, 1.0, 0.0, 1.0]).hist
        assert (cells - 250).abs().max() < 70  # 4.5 standard deviations


def test_points_of_an_image_follow_from_its_own_seed():
    state = torch.get_rng_state()
    together = draw_points([7, 2**63 - 1, 8], [20, 5], "cpu")
    for index, seed in enumerate([7, 2**63 - 1, 8]):
        for whole, alone in zip(together, draw_points([seed], [20, 5], "cpu"), strict=True):
            assert torch.equal(whole[index], alone[0])
    assert not torch.equal(together[0][0], together[0][2])
    assert torch.equal(torch.get_rng_state(), state)


def test_most_uncertain_candidates_are_those_nearest_to_zero():
    torch.manual_seed(0)
    mask_logits, candidates = torch.randn(3, 9, 7), torch.rand(50, 2)
    index = most_uncertain(mask_logits, candidates, 12)
    assert index.shape == (3, 12)
    for mask, chosen in zip(mask_logits, index.tolist(), strict=True):
        values = [abs(plain_bilinear(mask, x, y)) for x, y in candidates.tolist()]
        assert sorted(chosen) == sorted(sorted(range(50), key=lambda number: values[number])[:12])


def test_no_masks_and_no_points():
    assert most_uncertain(torch.zeros(0, 8, 8), torch.rand(16, 2), 4).shape == (0, 4)
    assert most_uncertain(torch.zeros(2, 8, 8), torch.rand(16, 2), 0).shape == (2, 0)
    assert draw_points([1], [0], "cpu")[0].shape == (1, 0, 2)
