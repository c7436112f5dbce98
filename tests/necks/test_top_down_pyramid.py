"""The feature pyramid equals the published one: plain convolutions, nearest upsampling, addition."""

import torch

from possam.necks import TopDownPyramid
from tests.reference import ovsam as reference

CHANNELS = {4: 5, 8: 6, 16: 7, 32: 8}


def test_equals_the_plain_formula():
    generator = torch.Generator().manual_seed(0)
    maps = {s: torch.randn(1, c, 96 // s, 64 // s, generator=generator) for s, c in CHANNELS.items()}
    shapes = reference.head_shapes(channels=tuple(CHANNELS.values()), width=8)
    state = {k: v for k, v in reference.random_state(shapes).items() if k.startswith("fpn_neck.")}
    names = {"fpn_neck.lateral_convs": "inner_blocks", "fpn_neck.fpn_convs": "layer_blocks", "conv": "0"}
    renamed = {}
    for key, value in state.items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        renamed[key] = value
    pyramid = TopDownPyramid(in_channels=CHANNELS, channels=8)
    pyramid.load_state_dict(renamed, strict=True)
    found, expected = pyramid(maps), reference.feature_pyramid(state, maps)
    assert list(found) == [4, 8, 16, 32]
    assert all(torch.allclose(found[stride], expected[stride], atol=1e-5) for stride in found)


def test_starts_from_xavier_and_zero_biases():
    torch.manual_seed(0)
    weight, bias = next(iter(TopDownPyramid(in_channels={4: 400, 8: 20}, channels=64).inner_blocks[0])).parameters()
    assert weight.abs().max() <= (6 / 464) ** 0.5 and weight.std() > 0.9 * (2 / 464) ** 0.5 and not bias.any()
