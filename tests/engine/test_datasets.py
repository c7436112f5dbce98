import numpy as np
import pytest
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import register_semantic
from possam.data.datasets import SPECS
from possam.engine.datasets import prepare_datasets
from possam.engine.trainer import build_train_loader, training_records
from possam.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def _clean_catalogs():
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


def make_labels(root, *, ignore_label=255):
    """One image of 128×96 (width×height): grass above, star below, nothing at the left edge."""
    labels = np.zeros((96, 128), dtype=np.uint8)
    labels[48:] = 1
    labels[:, :8] = ignore_label
    for folder in ("photos", "labels"):
        (root / folder).mkdir(exist_ok=True)
        Image.fromarray(labels).save(root / folder / "a.png")
    words = Vocabulary.from_names(["grass", "star"], isthing=[False, True], name="made_up")
    return {"image_root": root / "photos", "label_root": root / "labels", "vocabulary": words, "image_suffix": ".png"}


def test_all_datasets_are_known(mini_config):
    assert {"mini_a_train", *SPECS} <= set(DatasetCatalog.list())


def test_unknown_datasets_are_refused(mini_config):
    mini_config.defrost()
    mini_config.DATASETS.TEST = ("ade20k_panoptic",)
    with pytest.raises(ValueError, match=r"TEST names the unknown dataset 'ade20k_panoptic'.*'ade20k_panoptic_val'"):
        prepare_datasets(mini_config)


def test_training_on_label_maps(mini_config, tmp_path):
    register_semantic("made_up", **make_labels(tmp_path, ignore_label=9), ignore_label=9)
    mini_config.defrost()
    mini_config.DATASETS.TRAIN = ("made_up",)
    mini_config.MODEL.TRAIN_VOCABULARY = ""
    mini_config.SOLVER.IMS_PER_BATCH = 1
    mini_config.DATALOADER.NUM_WORKERS = 0
    (sample,) = next(iter(build_train_loader(mini_config, training_records(mini_config), None)))
    assert sample["instances"].gt_classes.tolist() == [0, 1]
    assert sample["instances"].gt_masks.tensor.sum((1, 2)).tolist() == [48 * 120, 48 * 120]


def test_training_datasets_share_one_ignore_label(mini_config, tmp_path):
    paths = make_labels(tmp_path)
    register_semantic("one", **paths, ignore_label=255)
    register_semantic("two", **paths, ignore_label=9)
    mini_config.defrost()
    mini_config.DATASETS.TRAIN = ("one", "two")
    mini_config.MODEL.TRAIN_VOCABULARY = ""
    with pytest.raises(ValueError, match=r"must share one ignore label, but have {'one': 255, 'two': 9}"):
        training_records(mini_config)
