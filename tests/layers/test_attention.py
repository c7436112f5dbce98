import pytest
import torch
from torch import nn

from possam.layers import CrossAttentionLayer, FeedForwardLayer, MultiheadAttention, SelfAttentionLayer
from possam.layers.attention import attend_inside, attend_somewhere


@pytest.fixture
def torch_attention():
    """PyTorch's own attention with the weights of ours, and ours."""
    torch.manual_seed(0)
    ours = MultiheadAttention(channels=16, heads=4)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.3)
        theirs.in_proj_weight.copy_(ours.in_proj.weight)
        theirs.in_proj_bias.copy_(ours.in_proj.bias)
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    return ours, theirs


def test_equals_torch_with_and_without_mask(torch_attention):
    ours, theirs = torch_attention
    query, key, value = torch.randn(2, 5, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value)[0])
    allowed = attend_somewhere(torch.rand(2, 5, 7) > 0.6)
    forbidden = ~allowed.repeat_interleave(4, dim=0)
    torch.testing.assert_close(ours(query, key, value, allowed), theirs(query, key, value, attn_mask=forbidden)[0])


def test_a_closed_position_has_no_influence(torch_attention):
    layer = CrossAttentionLayer(channels=16, heads=4)
    queries, positions = torch.randn(1, 3, 16), torch.randn(1, 3, 16)
    memory = torch.randn(1, 6, 16)
    allowed = torch.ones(1, 3, 6, dtype=torch.bool)
    allowed[0, 1, 4] = False
    changed = memory.clone()
    changed[0, 4] += 5
    before, after = (layer(queries, positions, x, x, allowed) for x in (memory, changed))
    torch.testing.assert_close(before[0, 1], after[0, 1])
    assert not torch.allclose(before[0, 0], after[0, 0], atol=1e-3)


def test_layers_are_post_norm_with_residual():
    torch.manual_seed(0)
    x, positions = torch.randn(2, 3, 16), torch.randn(1, 3, 16)
    feed = FeedForwardLayer(channels=16, hidden=32)
    torch.testing.assert_close(feed(x), feed.norm(x + feed.linear2(feed.linear1(x).clamp(min=0))))
    layer = SelfAttentionLayer(channels=16, heads=2)
    placed = x + positions
    torch.testing.assert_close(layer(x, positions), layer.norm(x + layer.attention(placed, placed, x)))


def test_initialization_is_that_of_torch():
    ours = MultiheadAttention(channels=64, heads=4)
    bound = (6 / (64 + 3 * 64)) ** 0.5
    assert 0.95 * bound < ours.in_proj.weight.abs().max() <= bound
    assert (ours.in_proj.bias == 0).all() and (ours.out_proj.bias == 0).all()


def test_a_mask_without_a_position_is_open_everywhere():
    mask_logits = torch.tensor([[[4.0, -4.0, -0.1, 0.0], [4.0] * 4, [-4.0] * 4]])
    assert attend_inside(mask_logits).tolist() == [[[True, False, False, True], [True] * 4, [True] * 4]]


def test_heads_must_divide_channels():
    with pytest.raises(ValueError, match="10 and 4"):
        MultiheadAttention(channels=10, heads=4)
