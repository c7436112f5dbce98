import itertools

import pytest

from possam.visualize import class_color
from possam.visualize.colors import BLACK, WHITE, contrast, ink_on, mix
from possam.vocabulary import Vocabulary


def test_colors_belong_to_names():
    assert class_color("Sea ") == class_color("sea")
    # Written down: pictures of earlier runs must stay comparable.
    assert [class_color(name) for name in ("person", "tree")] == [(0, 105, 255), (0, 105, 180)]
    words = [f"name {i}" for i in range(400)]
    assert len({class_color(word) for word in words}) > 55


def test_few_classes_of_a_vocabulary_share_a_color():
    names = Vocabulary.load("mini_b").display_names
    assert len(names) - len({class_color(name) for name in names}) <= 6


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
