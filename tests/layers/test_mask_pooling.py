import pytest
import torch
from torch.nn import functional as F

from possam.layers import mask_pool
from possam.layers.mask_pooling import pool_layers


def plain_mask_pool(features, mask_logits):
    batch, channels, height, width = features.shape
    pooled = torch.zeros(batch, mask_logits.shape[1], channels)
    empty = torch.zeros(batch, mask_logits.shape[1], dtype=torch.bool)
    for b in range(batch):
        for q in range(mask_logits.shape[1]):
            logits = F.interpolate(mask_logits[b : b + 1, q : q + 1], size=(height, width), mode="bilinear")[0, 0]
            chosen = features[b][:, logits > 0]
            empty[b, q] = chosen.shape[1] == 0
            if not empty[b, q]:
                pooled[b, q] = chosen.mean(1)
    return pooled, empty


@pytest.mark.parametrize("size", [(7, 9), (12, 5), (3, 4), (14, 18)])
def test_equals_the_mean_inside_each_mask(size):
    torch.manual_seed(0)
    features, mask_logits = torch.randn(2, 5, 7, 9), torch.randn(2, 6, *size)
    mask_logits[1, 2] = -1
    pooled, empty = mask_pool(features, mask_logits)
    expected, expected_empty = plain_mask_pool(features, mask_logits)
    torch.testing.assert_close(pooled, expected)
    assert torch.equal(empty, expected_empty)
    assert empty[1, 2] and (pooled[1, 2] == 0).all()


def test_a_mask_lost_in_resizing_is_empty():
    mask_logits = torch.full((1, 1, 64, 64), -1.0)
    mask_logits[0, 0, 0, 0] = 1.0
    pooled, empty = mask_pool(torch.ones(1, 3, 4, 4), mask_logits)
    assert empty.item() and (pooled == 0).all()


def test_gradient_reaches_features_and_not_masks():
    features = torch.randn(1, 3, 4, 4, requires_grad=True)
    mask_logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    pooled, _ = mask_pool(features, mask_logits)
    pooled[0, 1].sum().backward()
    inside = (mask_logits[0, 1] > 0).float()
    torch.testing.assert_close(features.grad[0, 0], inside / inside.sum())
    assert mask_logits.grad is None


def test_large_masks_do_not_overflow_half_precision():
    features = torch.full((1, 2, 64, 64), 100.0, dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.float16):
        pooled, _ = mask_pool(features, torch.ones(1, 1, 64, 64, dtype=torch.float16))
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.full((1, 1, 2), 100.0))


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\) and \(1, 2, 4, 4\)"):
        mask_pool(torch.zeros(2, 3, 4, 4), torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match="same batch"):
        mask_pool(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4))


def test_pooling_of_layers_keeps_masks_as_bool():
    """What the backward pass keeps of 250 masks at 256×256 cells: 16 MB a layer, and not 65."""
    features = torch.randn(1, 4, 8, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        pooled = pool_layers(features.bfloat16(), [torch.randn(1, 3, 8, 8) for _ in range(2)])
    assert pooled.shape == (2, 1, 3, 4) and pooled.dtype == torch.float32
    assert sorted(x.dtype == torch.bool for x in kept) == [False, True, True]
