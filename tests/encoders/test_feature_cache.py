"""The cache gives back what was computed, and never takes a damaged shard for whole."""

import errno
import pickle

import pytest
import torch

from possam.encoders import FeatureCache, feature_cache
from possam.encoders.feature_cache import missing_shards, write_shard

SAMPLES = 5


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(feature_cache, "SHARD", 2)


def image(number):
    return torch.arange(number * 12, number * 12 + 12).reshape(3, 2, 2).float()


def encode(images):
    batch = torch.stack(images)
    return {"sam": {16: batch[:, :1] * 2}, "clip": {4: batch[:, 1:], 32: batch[:, :1]}}


def write(folder, index):
    numbers = range(2 * index, min(2 * index + 2, SAMPLES))
    write_shard(folder, index, [[(f"{number}:plain", image(number))] for number in numbers], encode)


@pytest.fixture
def folder(tmp_path):
    for index in range(3):
        write(tmp_path / "deep", index)
    return tmp_path / "deep"


def test_gives_each_sample_its_own_features(folder):
    cache = pickle.loads(pickle.dumps(FeatureCache(folder=folder, samples=SAMPLES)))  # as it comes to a worker
    assert len(cache) == SAMPLES
    for number in range(SAMPLES):
        features = cache.get(f"{number}:plain")
        assert {role: list(maps) for role, maps in features.items()} == {"sam": [16], "clip": [4, 32]}
        assert features["sam"][16].dtype == torch.float16
        assert torch.equal(features["sam"][16].float(), image(number)[:1] * 2)
        assert torch.equal(features["clip"][4].float(), image(number)[1:])
        assert torch.equal(features["clip"][32].float(), image(number)[:1])
    assert cache.get("9:flip") is None
    assert [path.name for path in sorted(folder.iterdir())] == [f"00000{index}.safetensors" for index in range(3)]


def test_only_what_is_missing_or_damaged_is_to_be_computed(folder, tmp_path, caplog):
    assert missing_shards(tmp_path / "nowhere", SAMPLES) == [0, 1, 2]
    assert missing_shards(folder, SAMPLES) == [] and not caplog.text
    first, second = folder / "000000.safetensors", folder / "000001.safetensors"
    first.unlink()
    second.write_bytes(second.read_bytes()[:-3])  # cut
    assert missing_shards(folder, SAMPLES) == [0, 1]
    assert "000001.safetensors is damaged" in caplog.text and "000000" not in caplog.text
    with pytest.raises(OSError, match=r"000000.safetensors cannot be used .*shared by all machines"):
        FeatureCache(folder=folder, samples=SAMPLES)
    write(folder, 0), write(folder, 1)
    assert missing_shards(folder, SAMPLES) == []
    assert missing_shards(folder, SAMPLES + 1) == [2]  # a set of another size


def test_a_flipped_bit_is_found_when_it_is_read(folder):
    path = folder / "000001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    cache = FeatureCache(folder=folder, samples=SAMPLES)
    assert cache.get("2:plain") is not None  # the other sample of the shard
    with pytest.raises(OSError, match=r"000001.safetensors is damaged: the [\w.]+ features of 3:plain. Remove it"):
        cache.get("3:plain")
    path.unlink()
    with pytest.raises(OSError, match="000001.safetensors cannot be read"):
        cache.get("2:plain")


def test_features_beyond_half_precision_are_refused(tmp_path):
    with pytest.raises(ValueError, match="half precision"):
        write_shard(tmp_path, 0, [[("1:plain", torch.full((3, 2, 2), 1e5))]], encode)


def test_a_full_disk_is_told_before_and_when_it_happens(tmp_path, monkeypatch):
    batch = [[("0:plain", image(0))]]
    with pytest.raises(OSError, match=r"GB are needed, but .* GB are free.*INPUT.FEATURE_CACHE_DIR"):
        write_shard(tmp_path, 0, batch, encode, missing=10**15)

    def full(path, write):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_cache, "write_atomically", full)
    with pytest.raises(OSError, match="No space left on device.*Shards that are whole are kept"):
        write_shard(tmp_path, 0, batch, encode)
    assert list(tmp_path.iterdir()) == []
