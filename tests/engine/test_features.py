"""Features of a training set are computed once, by all processes together, and from where a stopped run stood."""

import itertools
from pathlib import Path

import pytest
import torch

from possam.d2.utils import comm
from possam.data import sample_key
from possam.data.miniature.export import export_split
from possam.encoders import feature_cache
from possam.engine import Trainer, features, load_config, prepare_datasets
from possam.engine.features import training_features
from possam.engine.trainer import build_train_loader, training_records

IMAGES = 5


def prepare(root, config="possam"):
    places = ["INPUT.FEATURE_CACHE_DIR", f"{root}/features", "MODEL.TEXT_CACHE", "", "OUTPUT_DIR", f"{root}/out"]
    cfg = load_config(f"configs/mini/{config}.yaml", ["DATASETS.TEST", "()", *places])
    prepare_datasets(cfg)
    for room in (features, feature_cache):
        room.SHARD = 4
    return cfg, Trainer.build_model(cfg), training_records(cfg)


@pytest.fixture
def world(miniature, tmp_path, monkeypatch):
    export_split("mini_a_train", root=tmp_path, scenes=IMAGES)
    miniature(tmp_path)
    for room in (features, feature_cache):
        monkeypatch.setattr(room, "SHARD", 4)  # and back to what it was, whatever `prepare` does
    return tmp_path


def written(root):
    return {path.name: path.stat().st_mtime_ns for path in Path(root, "features").glob("*/*.safetensors")}


@pytest.mark.parametrize("config", ["possam", "fcclip"])
def test_computes_what_is_missing_and_no_more(world, config):
    cfg, model, records = prepare(world, config)
    encoded = []
    plain = model.encode

    def encode(images, **options):
        encoded.append(len(images))
        if sum(encoded) == 10:
            raise KeyboardInterrupt  # in the last of three shards
        return plain(images, **options)

    model.encode = encode
    with pytest.raises(KeyboardInterrupt):
        training_features(cfg, model, records)
    before = written(world)
    assert sorted(before) == ["000000.safetensors", "000001.safetensors"]
    model.encode = plain
    cache = training_features(cfg, model, records)
    assert len(cache) == 2 * IMAGES
    assert before.items() < written(world).items()
    image = features.build_test_mapper(cfg, model.train_vocabulary)(records[4])["image"]
    for flipped in (False, True):
        found = cache.get(sample_key(records[4]["file_name"], image, flipped=flipped))
        expected = plain([image.flip(-1) if flipped else image])
        assert {role: tuple(maps) for role, maps in found.items()} == model.reads
        for role, maps in found.items():
            for stride, values in maps.items():
                wanted = expected[role][stride][0]
                assert values.dtype == torch.float16
                assert torch.allclose(values.float(), wanted, atol=1e-3 * float(wanted.abs().max()))
    again = written(world)
    assert len(training_features(cfg, model, records)) == 2 * IMAGES and written(world) == again


def test_an_image_that_cannot_be_read_has_no_features_and_training_draws_others(world):
    cfg, model, records = prepare(world)
    Path(records[3]["file_name"]).write_bytes(b"no picture")
    cache = training_features(cfg, model, records)
    assert len(cache) == 2 * IMAGES
    cfg.SOLVER.IMS_PER_BATCH = 2
    batches = itertools.islice(build_train_loader(cfg, records, cache), 2 * IMAGES)
    seen = [item for batch in batches for item in batch]
    readable = {record["file_name"] for record in records if record is not records[3]}
    assert {item["file_name"] for item in seen} == readable and all(item["features"] for item in seen)


def share_the_work(root):
    cfg, model, records = prepare(root)
    plain, own = model.encode, []
    model.encode = lambda images, **options: own.append(len(images)) or plain(images, **options)
    cache = training_features(cfg, model, records)
    assert len(cache) == 2 * IMAGES
    assert sum(own) == (6 if comm.is_main_process() else 4)


def test_processes_share_the_work(two_processes, world):
    two_processes(share_the_work, str(world))
    assert len(written(world)) == 3
