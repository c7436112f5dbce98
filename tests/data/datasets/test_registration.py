import pytest

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data.datasets import SPECS, register_datasets
from tests.layouts import make_coco, make_lvis


@pytest.fixture(autouse=True)
def _clean_catalogs():
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    for name in SPECS:
        DatasetCatalog.data.pop(name, None)
        MetadataCatalog.data.pop(name, None)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


def test_everything_is_registered_before_its_files_are_there(tmp_path):
    before = set(DatasetCatalog.list())
    assert register_datasets(tmp_path) == list(SPECS)
    assert set(DatasetCatalog.list()) == before | set(SPECS)
    with pytest.raises(FileNotFoundError, match=r"panoptic_val2017.json does not exist. Download val2017.zip"):
        DatasetCatalog.get("coco_panoptic_val")
    make_coco(tmp_path)
    assert len(DatasetCatalog.get("coco_panoptic_val")) == 2


def test_metadata(tmp_path):
    register_datasets(tmp_path)
    ade = MetadataCatalog.get("ade20k_panoptic_val")
    folder = tmp_path / "ADEChallengeData2016"
    assert ade.panoptic_json == str(folder / "ade20k_panoptic_val.json")
    assert ade.sem_seg_root == str(folder / "annotations_detectron2/validation")
    assert ade.json_file == str(folder / "ade20k_instance_val.json")
    assert (ade.tasks, ade.ignore_label, ade.federated) == (("panoptic", "semantic", "instance"), 255, False)
    assert len(ade.thing_classes) == len(ade.vocabulary) == 150
    assert sum(ade.vocabulary.isthing) == 100
    full = MetadataCatalog.get("ade20k_full_val")
    assert (full.tasks, full.ignore_label) == (("semantic",), 65535)
    assert MetadataCatalog.get("mapillary_panoptic_val").ignore_label == 65
    lvis = MetadataCatalog.get("lvis_instance_val")
    assert (lvis.tasks, lvis.federated) == (("instance",), True)
    coco = MetadataCatalog.get("coco_instance_val")
    assert len(coco.vocabulary) == 80 and all(coco.vocabulary.isthing) and not coco.class_split
    divided = [MetadataCatalog.get(f"coco_48_17_{split}") for split in ("train", "val")]
    assert [(len(one.vocabulary), one.class_split) for one in divided] == [(48, "coco_48_17"), (65, "coco_48_17")]


def test_registering_again_is_harmless_and_another_root_moves_the_names(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    register_datasets(here)
    first = MetadataCatalog.get("lvis_instance_val")
    register_datasets(here)
    assert MetadataCatalog.get("lvis_instance_val") is first
    register_datasets(there)
    assert MetadataCatalog.get("lvis_instance_val").image_root == str(there / "coco")
    make_lvis(there)
    assert len(DatasetCatalog.get("lvis_instance_val")) == 2


def test_a_name_that_another_project_took_is_not_taken_away(tmp_path):
    DatasetCatalog.register("coco_panoptic_val", list)
    with pytest.raises(ValueError, match="'coco_panoptic_val' is registered already with another image_root"):
        register_datasets(tmp_path)
    assert DatasetCatalog.get("coco_panoptic_val") == []


def test_no_key_is_one_that_detectron2_renames():
    """Its metadata sets `thing_classes` where it is given `class_names`."""
    renamed = {"class_names", "dataset_id_to_contiguous_id", "stuff_class_names"}
    register_datasets()
    assert renamed.isdisjoint(vars(MetadataCatalog.get("ade20k_panoptic_val")))


def test_datasets_of_a_split_have_its_classes(tmp_path):
    register_datasets(tmp_path)
    for name, classes in (("coco_instance_val", 80), ("coco_48_17_train", 48), ("coco_48_17_val", 65)):
        assert len(MetadataCatalog.get(name).vocabulary) == classes
