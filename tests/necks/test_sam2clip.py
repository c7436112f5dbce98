"""The student neck equals the published one by its names, and gives SAM's embedding at any size."""

import pytest
import torch
from segment_anything.modeling.image_encoder import Block

from possam.necks import SAM2CLIP
from tests.reference import ovsam as reference

CHANNELS = {4: 5, 8: 6, 16: 7, 32: 8}
SMALL = {"channels": tuple(CHANNELS.values()), "width": 12, "heads": 2, "grid": 5, "window": 3, "out": 4, "blocks": 3}


def small(**changes):
    sizes = {"width": 12, "heads": 2, "grid": 5, "window": 3, "layers": 3, "out_channels": 4}
    return SAM2CLIP(**{"in_channels": CHANNELS, **sizes, **changes})


def renamed(state):
    names = {"neck_student.": "", "pos_embed": "positions", "level_encoding": "level_embedding", ".projection": ""}
    names["patch_embeds"] = "levels"
    result = {}
    for key, value in state.items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        result[key] = value
    return result


def maps(side, channels=CHANNELS):
    generator = torch.Generator().manual_seed(1)
    return {s: torch.randn(1, c, side // s, side // s, generator=generator) for s, c in channels.items()}


@pytest.fixture(scope="module")
def published():
    return reference.random_state(reference.student_shapes(**SMALL))


@pytest.mark.parametrize("gradients", [False, True])
def test_equals_the_published_neck(published, gradients):
    neck = small(grid=6)
    state = reference.random_state(reference.student_shapes(**{**SMALL, "grid": 6}))
    neck.load_state_dict(renamed(state), strict=True)
    with torch.set_grad_enabled(gradients):
        found = neck(maps(96))
    expected = reference.student(state, maps(96), heads=2, window=3)
    assert found.shape == (1, 4, 6, 6) and torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_has_the_published_names_and_shapes_at_full_size():
    with torch.device("meta"):
        neck = SAM2CLIP(in_channels={4: 384, 8: 768, 16: 1536, 32: 3072})
    state = renamed({key: torch.empty(shape, device="meta") for key, shape in reference.student_shapes().items()})
    assert {key: value.shape for key, value in neck.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert sum(parameter.numel() for parameter in neck.parameters()) == 128_844_768
    assert "positions" not in dict(neck.named_parameters()) and isinstance(neck.blocks[0], Block)
    assert [block.window_size for block in neck.blocks] == [14, 14, 14, 14, 0]


def test_one_level_has_no_level_embedding():
    neck = small(in_channels={16: 7})
    assert neck.level_embedding is None and len(neck.levels) == 1
    assert neck(maps(64)).shape == (1, 4, 4, 4)


def test_positions_are_resized_for_other_sizes_and_taken_from_sam():
    neck = small()
    neck.take_positions(torch.randn(1, 8, 8, 12))
    own = neck.positions.clone()
    assert own.abs().sum() > 0
    with torch.no_grad():
        plain = neck(maps(160))
        neck.positions.zero_()
        assert not torch.allclose(plain, neck(maps(160))) and plain.shape == (1, 4, 10, 10)
    neck.take_positions(own)
    assert torch.equal(neck.positions, own)
    with pytest.raises(ValueError, match="width 12, but the position embedding 16"):
        neck.take_positions(torch.zeros(1, 5, 5, 16))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"strides \[4, 24\] for 16"):
        small(in_channels={4: 3, 24: 3})
    neck = small()
    with pytest.raises(ValueError, match=r"got none of \[32\]"):
        neck({stride: values for stride, values in maps(96).items() if stride < 32})
    wrong = {**maps(96), 32: torch.zeros(1, 8, 2, 3)}
    with pytest.raises(ValueError, match="maps must be of one image"):
        neck(wrong)


def test_everything_but_the_positions_is_trained():
    neck = small(grid=6)
    neck(maps(96)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in neck.parameters())
