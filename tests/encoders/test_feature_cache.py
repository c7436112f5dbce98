"""The cache gives back what was computed, and never takes a damaged file for whole."""

import pytest
import torch

from possam.encoders import FeatureCache


def encode(images):
    batch = torch.stack(images)
    return {"sam": batch[:, :1] * 2, "clip": batch[:, 1:]}


@pytest.fixture
def cache():
    images = torch.arange(5 * 3 * 2 * 2).reshape(5, 3, 2, 2).float()
    return FeatureCache.compute(((f"{i}:plain", images[i]) for i in range(5)), encode, count=5, batch_size=2)


def test_gives_each_sample_its_own_features(cache):
    image = torch.arange(3 * 3 * 2 * 2, 4 * 3 * 2 * 2).reshape(3, 2, 2).float()
    features = cache.get("3:plain")
    assert torch.equal(features["sam"].float(), image[:1] * 2)
    assert torch.equal(features["clip"].float(), image[1:])


def test_an_uncomputed_sample_has_none(cache):
    assert cache.get("9:flip") is None


def test_survives_the_disk(cache, tmp_path):
    cache.save(tmp_path / "deep" / "features.safetensors")
    loaded = FeatureCache.load(tmp_path / "deep" / "features.safetensors")
    assert torch.equal(loaded.get("4:plain")["clip"], cache.get("4:plain")["clip"])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["features.safetensors"]


def test_a_damaged_file_is_computed_again(cache, tmp_path, caplog):
    path = tmp_path / "features.safetensors"
    cache.save(path)
    path.write_bytes(path.read_bytes()[:40])
    assert FeatureCache.load(path) is None
    assert "damaged" in caplog.text
    assert FeatureCache.load(tmp_path / "none.safetensors") is None


def test_features_beyond_half_precision_are_refused():
    with pytest.raises(ValueError, match="half precision"):
        FeatureCache.compute([("1:plain", torch.full((3, 2, 2), 1e5))], encode, count=1, batch_size=1)
