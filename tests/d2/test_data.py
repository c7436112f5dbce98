"""Samplers, datasets, loaders and catalogs of the built-in runtime."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from possam.d2._runtime.config import get_cfg
from possam.d2._runtime.data import (
    DatasetCatalog,
    DatasetFromList,
    MapDataset,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    detection_utils,
    get_detection_dataset_dicts,
)
from possam.d2._runtime.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from possam.d2._runtime.utils import comm


def take(iterable, count):
    return list(itertools.islice(iterable, count))


def test_the_training_sampler_gives_every_index_once_per_epoch_in_new_orders():
    stream = take(TrainingSampler(7, seed=3), 21)
    epochs = [stream[:7], stream[7:14], stream[14:]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert stream == take(TrainingSampler(7, seed=3), 21)
    assert take(TrainingSampler(3, shuffle=False), 5) == [0, 1, 2, 0, 1]


def test_processes_share_one_stream(monkeypatch):
    whole = take(TrainingSampler(10, seed=1), 20)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        parts.append(take(TrainingSampler(10, seed=1), 10))
    assert parts == [whole[0::2], whole[1::2]]


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_the_training_sampler_refuses_bad_sizes(size):
    with pytest.raises((TypeError, ValueError), match="size"):
        TrainingSampler(size)


def test_a_subset_stays_the_same_subset():
    stream = take(RandomSubsetTrainingSampler(100, 0.1, seed_shuffle=1, seed_subset=2), 30)
    assert len(set(stream)) == 10 and all(stream.count(index) == 3 for index in stream)


def test_repeat_factors_are_met_on_average():
    stream = take(RepeatFactorTrainingSampler(torch.tensor([1.0, 2.5]), seed=0), 7000)
    assert stream.count(1) / stream.count(0) == pytest.approx(2.5, rel=0.05)


def test_inference_shares_are_a_partition():
    shares = [InferenceSampler._get_local_indices(11, 4, rank) for rank in range(4)]
    assert [index for share in shares for index in share] == list(range(11))
    assert {len(share) for share in shares} == {2, 3}


@pytest.mark.parametrize("serialize", [True, False])
def test_a_list_dataset_protects_its_items(serialize):
    dataset = DatasetFromList([{"a": [1]}, {"a": [2]}], serialize=serialize)
    dataset[0]["a"].append(9)
    assert dataset[0] == {"a": [1]} and dataset[-1] == {"a": [2]} and len(dataset) == 2
    with pytest.raises(IndexError):
        dataset[2]


def test_an_item_that_cannot_be_mapped_is_replaced():
    dataset = MapDataset([0, 1, 2], lambda item: None if item == 1 else item)
    assert all(dataset[1] in (0, 2) for _ in range(5))
    with pytest.raises(RuntimeError, match="every item"):
        MapDataset([0, 1], lambda item: None)[0]


def test_batches_hold_either_wide_or_high_images():
    items = [{"width": 1 + index % 2, "height": 2 - index % 2, "index": index} for index in range(10)]
    loader = build_detection_train_loader(items, mapper=None, total_batch_size=2)
    for batch in take(loader, 8):
        assert len(batch) == 2 and len({item["width"] for item in batch}) == 1


def test_workers_do_not_change_the_order():
    batches = [
        take(build_detection_train_loader(list(range(20)), mapper=None, sampler=TrainingSampler(20, seed=5),
                                          total_batch_size=4, aspect_ratio_grouping=False, num_workers=workers), 5)
        for workers in (0, 2)
    ]  # fmt: skip
    assert batches[0] == batches[1]


def test_a_test_loader_gives_everything_once():
    loader = build_detection_test_loader(list(range(5)), mapper=lambda item: item * 10, batch_size=2)
    assert [item for batch in loader for item in batch] == [0, 10, 20, 30, 40]


@pytest.fixture
def dataset():
    items = [
        {"annotations": [{"category_id": 0}]},
        {"annotations": [{"category_id": 1, "iscrowd": 1}]},
        {"annotations": []},
    ]
    DatasetCatalog.register("test_d2_data", lambda: items)
    MetadataCatalog.get("test_d2_data").thing_classes = ["a", "b"]
    yield "test_d2_data"
    DatasetCatalog.remove("test_d2_data")
    MetadataCatalog.remove("test_d2_data")


def test_loaders_from_a_config(dataset):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (dataset,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.SOLVER.IMS_PER_BATCH = 1
    loader = build_detection_train_loader(cfg, mapper=lambda item: len(item["annotations"]))
    assert take(loader, 3) == [[1], [1], [1]]  # images with nothing but crowds are dropped
    assert list(build_detection_test_loader(cfg, dataset, mapper=lambda item: len(item["annotations"]))) == [
        [1],
        [1],
        [0],
    ]
    cfg.DATALOADER.SAMPLER_TRAIN = "Training"
    with pytest.raises(ValueError, match="RepeatFactorTrainingSampler"):
        build_detection_train_loader(cfg, mapper=lambda item: item)
    with pytest.raises(ValueError, match="mapper"):
        build_detection_test_loader(cfg, dataset)


def test_datasets_of_different_classes_do_not_mix(dataset):
    DatasetCatalog.register("test_d2_other", lambda: [{"annotations": []}])
    MetadataCatalog.get("test_d2_other").thing_classes = ["b", "a"]
    with pytest.raises(ValueError, match="thing_classes"):
        get_detection_dataset_dicts([dataset, "test_d2_other"])
    DatasetCatalog.remove("test_d2_other")
    MetadataCatalog.remove("test_d2_other")


def test_catalogs(dataset):
    with pytest.raises(KeyError, match=dataset):
        DatasetCatalog.get("test_d2_dat")
    metadata = MetadataCatalog.get(dataset)
    assert metadata is MetadataCatalog.get(dataset)
    metadata.thing_classes = ["a", "b"]  # the same again is fine
    with pytest.raises(AssertionError, match="thing_classes"):
        metadata.thing_classes = ["c"]
    with pytest.raises(AttributeError, match="stuff_classes"):
        _ = metadata.stuff_classes
    assert metadata.get("stuff_classes", 3) == 3


def test_images_are_read_upright_and_in_the_format_asked_for(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    path = str(tmp_path / "image.png")
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(path, exif=exif)
    upright = np.rot90(pixels, k=-1)
    assert (detection_utils.read_image(path, "RGB") == upright).all()
    assert (detection_utils.read_image(path, "BGR") == upright[:, :, ::-1]).all()
    assert detection_utils.read_image(path, "L").shape == (4, 2, 1)
    item = {"file_name": path, "height": 4}
    detection_utils.check_image_size(item, upright)
    assert item["width"] == 2
    with pytest.raises(detection_utils.SizeMismatchError, match="4×2"):
        detection_utils.check_image_size({"height": 2, "width": 4}, upright)
