"""Boxes embedded by CLIP's own attention pool equal open_clip and a plain formula."""

import pytest
import torch
import torch.nn.functional as F

from possam.encoders import FrozenCLIP
from tests.encoders.tiny_clips import frozen, images, normalized
from tests.reference import ovsam as reference


@pytest.fixture(scope="module")
def resnet():
    return frozen({"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 96})  # a pool of 3×3


def test_the_whole_image_has_open_clips_embedding(resnet):
    """RoIAlign of the native size to the pool's cells takes one sample a cell, at its center."""
    pixels = images(96, 96)
    whole = torch.tensor([[0.0, 0.0, 96.0, 96.0]])
    found = resnet.pool_boxes(resnet.final(pixels), [whole, whole])
    assert torch.allclose(found, F.normalize(resnet.model.encode_image(normalized(pixels)), dim=-1), atol=1e-5)


def test_equals_the_plain_formula(resnet):
    features = torch.randn(2, resnet.feature_dim, 5, 6, generator=torch.Generator().manual_seed(0))
    boxes = [torch.tensor([[3.0, 9, 150, 100], [-8, 0, 60, 170]]), torch.tensor([[90.0, 20, 95, 30]])]
    found = resnet.pool_boxes(features, boxes)
    pool = resnet.model.visual.attnpool
    for row, (image, box) in zip(found, [(0, boxes[0][0]), (0, boxes[0][1]), (1, boxes[1][0])], strict=True):
        cells = reference.region(features[image], box, 32, 3)
        plain = reference.attention_pool(pool.state_dict(), cells, pool.num_heads)
        assert torch.allclose(row, F.normalize(plain, dim=0), atol=1e-5)


def test_no_box_and_an_empty_box_are_answered(resnet):
    features = torch.randn(1, resnet.feature_dim, 2, 2)
    assert resnet.pool_boxes(features, [torch.zeros(0, 4)]).shape == (0, resnet.embed_dim)
    assert resnet.pool_boxes(features, [torch.zeros(1, 4)]).isfinite().all()


def test_a_tower_without_an_attention_pool_is_refused():
    clip = frozen({"timm_model_name": "tiny_convnext", "timm_pool": "", "timm_proj": "mlp", "image_size": 64})
    with pytest.raises(ValueError, match="has no attention pool"):
        clip.pool_boxes(clip.final(images(64, 64)), [torch.zeros(1, 4)] * 2)


def test_other_pixel_statistics_take_the_place_of_the_models():
    statistics = (0.1, 0.2, 0.3), (0.5, 0.25, 1.0)
    plain = FrozenCLIP.build(name="mini_weak")
    other = FrozenCLIP.build(name="mini_weak", pixel_statistics=statistics)
    assert torch.allclose(other.pixel_mean.flatten(), 255 * torch.tensor(statistics[0]))
    assert torch.allclose(other.pixel_std.flatten(), 255 * torch.tensor(statistics[1]))
    pixels = images(48, 48, batch=1)
    same = (pixels - other.pixel_mean) / other.pixel_std * plain.pixel_std + plain.pixel_mean
    assert torch.allclose(other.final(pixels), plain.final(same), atol=1e-4)
    assert other.fingerprint != plain.fingerprint and other.text_fingerprint == plain.text_fingerprint
