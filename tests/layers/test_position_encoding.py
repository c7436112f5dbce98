import math

import pytest
import torch

from possam.layers import PositionEmbeddingSine


def test_matches_the_formula_at_every_place():
    channels, height, width = 12, 3, 5
    encoding = PositionEmbeddingSine(channels)(torch.zeros(2, 1, height, width))
    assert encoding.shape == (channels, height, width) and encoding.dtype == torch.float32
    half = channels // 2
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                place = (y + 1) / height if c < half else (x + 1) / width
                k = c % half
                angle = 2 * math.pi * place / 10000 ** (2 * (k // 2) / half)
                expected = math.sin(angle) if k % 2 == 0 else math.cos(angle)
                assert encoding[c, y, x].item() == pytest.approx(expected, abs=1e-5)


def test_channels_must_hold_both_axes():
    with pytest.raises(ValueError, match="divisible by 4, .*but got 6"):
        PositionEmbeddingSine(6)
