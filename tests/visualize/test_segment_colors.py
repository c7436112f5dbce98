import numpy as np
import pytest

from possam.visualize.color_difference import ciede2000, seen_with, to_lab
from possam.visualize.colors import class_color
from possam.visualize.segment_colors import segment_colors


def plane(seed, count, size=(60, 80)):
    """`count` cells that touch each other, each the pixels nearest to a random point."""
    points = np.random.default_rng(seed).uniform(0, 1, (count, 2)) * size
    y, x = np.mgrid[: size[0], : size[1]]
    distance = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    return distance.argmin(-1).astype(np.int32) + 1


def neighbors(index):
    pairs = set()
    for a, b in ((index[1:], index[:-1]), (index[:, 1:], index[:, :-1])):
        pairs |= {(min(i, j) - 1, max(i, j) - 1) for i, j in zip(a[a != b].tolist(), b[a != b].tolist(), strict=True)}
    return pairs


@pytest.mark.parametrize("classes, count", [(6, 20), (34, 30), (133, 40), (1203, 20)])
def test_segments_can_be_told_apart_with_each_vision(classes, count):
    for seed in range(3):
        index = plane(seed, count)
        own = np.random.default_rng(seed).integers(0, classes, count).tolist()
        colors = segment_colors(index, own)
        seen, touching = seen_with(colors), neighbors(index)
        lightness = to_lab(colors)[:, 0]
        for i in range(count):
            for j in range(i + 1, count):
                normal, *deficient = ciede2000(seen[:, i], seen[:, j])
                least = 10 if (i, j) in touching else 5
                assert normal >= least and min(deficient) >= least / 1.5
                assert own[i] != own[j] or abs(lightness[i] - lightness[j]) > 3


def test_the_largest_of_a_class_has_the_color_of_the_class():
    index = np.zeros((40, 60), np.int32)
    index[:5, :5], index[20:, :20], index[:, 40:] = 1, 2, 3
    one, other, third = segment_colors(index, [7, 7, 2])
    assert other == class_color(7) and third == class_color(2) and one != other
    assert segment_colors(index // 3, [7]) == [class_color(7)]
    assert segment_colors(index * 0, []) == []


def test_a_segment_without_pixels_and_a_thin_gap():
    index = np.zeros((40, 60), np.int32)
    index[:, :30], index[:, 32:] = 1, 2  # two pixels apart
    first, second, _ = segment_colors(index, [0, 0, 0])
    assert ciede2000(to_lab(first), to_lab(second)) >= 10
