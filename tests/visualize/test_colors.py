import itertools

import numpy as np
import pytest

from possam.visualize import class_color
from possam.visualize.color_difference import ciede2000, seen_with
from possam.visualize.colors import BLACK, WHITE, contrast, ink_on, mix


def test_no_two_classes_have_one_color():
    assert len({class_color(position) for position in range(38_970)}) == 38_970
    assert class_color(38_970) == class_color(256)


@pytest.mark.parametrize("count, normal, deficient", [(12, 20, 13), (32, 10, 6.8), (133, 4.8, 3.1)])
def test_the_first_colors_are_far_apart_also_with_color_vision_deficiencies(count, normal, deficient):
    seen = seen_with([class_color(position) for position in range(count)])
    pairs = np.triu_indices(count, 1)
    least = [ciede2000(each[pairs[0]], each[pairs[1]]).min() for each in seen]
    assert len(least) == 4 and least[0] >= normal and min(least[1:]) >= deficient


def test_contrast_is_that_of_wcag():
    assert contrast(BLACK, WHITE) == contrast(WHITE, BLACK) == pytest.approx(21)
    assert contrast((255, 0, 0), WHITE) == pytest.approx(3.998, abs=1e-3)
    assert contrast((119, 119, 119), WHITE) == pytest.approx(4.478, abs=1e-3)
    assert contrast((7, 8, 9), (7, 8, 9)) == 1


def test_ink_can_be_read_on_every_color():
    steps = range(0, 256, 15)
    assert min(contrast(ink_on(paper), paper) for paper in itertools.product(steps, steps, steps)) >= 4.5
    assert ink_on(WHITE) == BLACK and ink_on(BLACK) == WHITE


def test_mixtures():
    assert mix((0, 10, 255), (100, 20, 55), 0.5) == (50, 15, 155)
    assert mix((1, 2, 3), WHITE, 0) == (1, 2, 3)
