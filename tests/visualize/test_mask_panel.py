import dataclasses

import numpy as np
import pytest

from possam.models.explanation import Candidate, MaskExplanation
from possam.visualize import class_color, draw_explanation

NAMES = ["tree", "house", "a name that is so long that it never fits into its column", "sea", "木"]


def candidates(*probabilities):
    return tuple(
        Candidate(label=NAMES[k], label_id=k, probability=p, seen=k % 2 == 0) for k, p in enumerate(probabilities)
    )


@pytest.fixture
def explanation():
    return MaskExplanation(
        query=7,
        label="tree",
        score=0.5,
        in_vocabulary=candidates(0.5, 0.25, 0.2, 0.04, 0.01),
        clip=candidates(0.8, 0.1, 0.05, 0.05, 0.0),
        final=candidates(0.625, 0.2, 0.1, 0.05, 0.025),
        ensemble="mase",
        iou=0.9,
        void=0.1,
        clip_weight=0.25,
        confidence=0.75,
        clip_sees=True,
    )


def bar_lengths(picture, color):
    """Pixels of a color in rows that have a bar of it, by row, from the third of the picture that has the names."""
    rows = (picture[:, 520:] == color).all(-1).sum(axis=1)
    return rows[rows > 0]


def test_bars_have_the_length_of_the_probabilities(explanation):
    image, mask = np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80), bool)
    mask[20:40, 20:60] = True
    picture = draw_explanation(image, mask, explanation)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    lengths = bar_lengths(picture, class_color(0))
    # Three bars side by side, 260 pixels each at most, less their frames.
    assert lengths.max() == pytest.approx(260 * (0.5 + 0.8 + 0.625), abs=6)
    stronger = dataclasses.replace(explanation, clip=candidates(0.9, 0.1))
    longer = bar_lengths(draw_explanation(image, mask, stronger), class_color(0))
    assert longer.max() - lengths.max() == pytest.approx(26, abs=2)


def test_the_mask_keeps_its_colors_and_the_rest_is_pale(explanation):
    image = np.full((480, 480, 3), (200, 20, 20), np.uint8)
    mask = np.zeros((480, 480), bool)
    mask[100:300, 100:300] = True
    picture = draw_explanation(image, mask, explanation)
    top = picture.shape[0] - 480 - 12
    assert tuple(picture[top + 200, 12 + 200]) == (200, 20, 20)
    red, green, blue = picture[top + 400, 12 + 400].tolist()
    assert red == green == blue > 150


def test_clip_weight_moves_the_point(explanation):
    image, mask = np.zeros((60, 80, 3), np.uint8), np.ones((60, 80), bool)
    pictures = [
        draw_explanation(image, mask, dataclasses.replace(explanation, clip_weight=value)) for value in (0.0, 0.5, 1.0)
    ]
    changed = np.abs(pictures[0].astype(int) - pictures[2]).sum(-1) > 200
    columns = np.flatnonzero(changed.any(axis=0))
    assert columns.max() - columns.min() > 600
    with_less = dataclasses.replace(explanation, confidence=None, clip_sees=False)
    assert draw_explanation(image, mask, with_less).shape == pictures[0].shape


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 30)])
def test_any_shape(explanation, size):
    picture = draw_explanation(np.zeros((*size, 3), np.uint8), np.ones(size, bool), explanation)
    assert picture.shape[0] > 480
