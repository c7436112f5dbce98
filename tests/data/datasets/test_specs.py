import pytest

from possam.data.datasets import SPECS, DatasetSpec, InstanceFiles, SemanticFiles, find_spec
from possam.vocabulary.tables import table_names

OFFICIAL_IMAGES = {
    "coco_panoptic": (118_287, 5_000),
    "coco_instance": (118_287, 5_000),
    "coco_stuff": (118_287, 5_000),
    "ade20k_panoptic": (20_210, 2_000),
    "ade20k_semantic": (20_210, 2_000),
    "ade20k_instance": (20_210, 2_000),
    "ade20k_full": (25_574, 2_000),
    "pascal_context_59": (4_998, 5_105),
    "pascal_context_459": (4_998, 5_105),
    "pascal_voc_20": (1_464, 1_449),
    "pascal_voc_21": (1_464, 1_449),
    "cityscapes_panoptic": (2_975, 500),
    "mapillary_panoptic": (18_000, 2_000),
    "lvis_instance": (100_170, 19_809),
    "coco_48_17": (118_287, 5_000),
    "lvis_866_337": (100_170, 19_809),
}
CLASSES = {
    "coco_panoptic": 133,
    "coco_instance": 80,
    "coco_stuff": 171,
    "ade20k_panoptic": 150,
    "ade20k_semantic": 150,
    "ade20k_instance": 100,
    "ade20k_full": 847,
    "pascal_context_59": 59,
    "pascal_context_459": 459,
    "pascal_voc_20": 20,
    "pascal_voc_21": 21,
    "cityscapes_panoptic": 19,
    "mapillary_panoptic": 65,
    "lvis_instance": 1203,
    "coco_48_17_train": 48,
    "coco_48_17_val": 65,
    "lvis_866_337_train": 866,
    "lvis_866_337_val": 1203,
}


def test_every_dataset_has_both_splits_with_the_official_numbers_of_images():
    images = {name: spec.images for name, spec in SPECS.items()}
    assert images == {
        f"{name}_{split}": count
        for name, counts in OFFICIAL_IMAGES.items()
        for split, count in zip(("train", "val"), counts, strict=True)
    }
    assert all(name == spec.name for name, spec in SPECS.items())


@pytest.mark.parametrize("name", SPECS)
def test_classes_are_a_shipped_table_and_label_maps_can_hold_them(name):
    spec = find_spec(name)
    assert spec.vocabulary in table_names()
    classes = len(spec.load_vocabulary())
    assert classes == CLASSES.get(name, CLASSES.get(name.rpartition("_")[0]))
    if spec.semantic:
        largest = {"uint8": 255, "uint16": 65535}[spec.semantic.dtype]
        assert classes <= spec.semantic.ignore_label <= largest


def test_instances_are_of_things_alone():
    for spec in SPECS.values():
        if spec.tasks == ("instance",):
            assert all(spec.load_vocabulary().isthing)


def test_tasks():
    assert find_spec("cityscapes_panoptic_val").tasks == ("panoptic", "semantic", "instance")
    assert find_spec("ade20k_full_val").tasks == ("semantic",)
    assert find_spec("lvis_instance_val").tasks == ("instance",)
    both = DatasetSpec(
        name="both", vocabulary="v", image_folder="i", images=1, source="",
        semantic=SemanticFiles(folder="s"), instances=InstanceFiles(json="j"),
    )  # fmt: skip
    assert both.tasks == ("semantic", "instance")


def test_what_to_do_names_the_preparation_where_there_is_one():
    assert find_spec("ade20k_full_val").fix.endswith("Then run: possam data prepare ade20k_full")
    assert "possam" not in find_spec("mapillary_panoptic_val").fix


def test_unknown_names_list_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown dataset 'ade20k_panoptic'.*lvis_instance_val.*Did you mean 'ade20k_"
    ):
        find_spec("ade20k_panoptic")
