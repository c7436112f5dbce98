"""Datasets, loaders and catalogs of the built-in runtime."""

import pytest
from torch.utils.data import SequentialSampler

from possam.d2._runtime.data import (
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from possam.d2._runtime.data.samplers import InferenceSampler


def test_inference_shares_are_a_partition():
    shares = [InferenceSampler._get_local_indices(11, 4, rank) for rank in range(4)]
    assert [index for share in shares for index in share] == list(range(11))
    assert {len(share) for share in shares} == {2, 3}


@pytest.mark.parametrize("copy", [True, False])
def test_a_list_dataset_protects_its_items(copy):
    dataset = DatasetFromList([{"a": [1]}, {"a": [2]}], copy=copy)
    dataset[0]["a"].append(9)
    assert dataset[0] == {"a": [1]} and dataset[-1] == {"a": [2]} and len(dataset) == 2
    with pytest.raises(IndexError):
        dataset[2]


def test_workers_do_not_change_the_order():
    items = list(range(20))
    batches = [
        list(build_detection_train_loader(
            items, mapper=None, sampler=SequentialSampler(items), total_batch_size=4, aspect_ratio_grouping=False,
            num_workers=workers, seed=5,
        ))
        for workers in (0, 2)
    ]  # fmt: skip
    assert batches[0] == batches[1] == [items[at : at + 4] for at in range(0, 20, 4)]


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


def test_datasets_of_different_classes_do_not_mix(dataset):
    DatasetCatalog.register("test_d2_other", lambda: [{"annotations": []}])
    MetadataCatalog.get("test_d2_other").thing_classes = ["b", "a"]
    with pytest.raises(ValueError, match="thing_classes"):
        get_detection_dataset_dicts([dataset, "test_d2_other"], filter_empty=False)
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


def test_datasets_are_joined(dataset):
    assert len(get_detection_dataset_dicts([dataset, dataset], filter_empty=False)) == 6
    assert len(get_detection_dataset_dicts(dataset, filter_empty=False)) == 3
