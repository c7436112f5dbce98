"""The blocks are segment_anything's in every layout: padded windows, global, low precision, eager and traced."""

import pytest
import torch
from segment_anything.modeling.image_encoder import Block
from torch import nn

from possam.encoders import sam_attention
from possam.encoders.sam import FrozenSAM
from possam.encoders.sam_attention import run_block


def random_block(window, grid):
    torch.manual_seed(0)
    block = Block(24, 3, norm_layer=nn.LayerNorm, use_rel_pos=True, window_size=window, input_size=grid)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block.requires_grad_(False)


@pytest.mark.parametrize("window", [0, 4, 5])
@pytest.mark.parametrize("grid", [(8, 8), (9, 6), (4, 13)])
@pytest.mark.parametrize("scores", [1 << 21, 200, 20])
def test_a_block_equals_segment_anything(monkeypatch, window, grid, scores):
    # From all sequences at once, over some at a time, to single queries.
    monkeypatch.setattr(sam_attention, "_SCORES", scores)
    monkeypatch.setattr(sam_attention, "_TOKENS", 7)
    block, x = random_block(window, grid), torch.randn(2, *grid, 24)
    expected = block(x)
    assert torch.allclose(run_block(block, x.clone(), torch.float32), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [0, 4])
def test_the_way_of_accelerators_equals_segment_anything(monkeypatch, window):
    monkeypatch.setattr(sam_attention, "runs_eagerly_on_cpu", lambda x: False)
    block, x = random_block(window, (6, 9)), torch.randn(2, 6, 9, 24)
    expected = block(x)
    assert torch.allclose(run_block(block, x.clone(), torch.float32), expected, atol=2e-5, rtol=1e-5)


def test_no_attention_matrix_is_in_memory():
    # vit_tiny's layout at 1,024 pixels: 4,096 patches, whose scores for two heads are 128 MiB.
    frozen, images = FrozenSAM.build(name="vit_tiny"), torch.rand(1, 3, 1024, 1024) * 255
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        frozen.final(images)
    largest = max(event.cpu_memory_usage for event in profile.events() if event.name.startswith("aten::empty"))
    assert largest <= 4 * max(sam_attention._SCORES, images.numel())


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16_stays_close(how):
    frozen, images = FrozenSAM.build(name="mini", weights="shipped"), torch.rand(2, 3, 128, 160) * 255
    expected = frozen.final(images)
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            found = frozen.final(images)
    else:
        found = frozen.to(torch.bfloat16).final(images)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)  # it did run in low precision
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_features_may_be_saved_for_backward():
    frozen, images = FrozenSAM.build(name="vit_tiny"), torch.rand(1, 3, 64, 64)
    features = frozen.final(images)
    assert not features.is_inference() and not features.requires_grad
    head = nn.Conv2d(16, 1, 1)
    head(features).sum().backward()
    assert head.weight.grad is not None
    with torch.inference_mode():
        assert frozen.final(images).is_inference()


@pytest.mark.parametrize("size", ["mini", "vit_b", "vit_h"])
def test_runs_on_the_meta_device(size):
    with torch.device("meta"):
        frozen = FrozenSAM.build(name=size)
        side = frozen.stride * 20
        assert frozen.final(torch.empty(2, 3, side, side)).shape == (2, frozen.out_channels[frozen.stride], 20, 20)
