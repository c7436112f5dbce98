"""A configuration is refused at the start, with the key and the valid values."""

from pathlib import Path

import pytest

from possam.classifiers.ensembles import ENSEMBLE_REGISTRY
from possam.engine import load_config, prepare_datasets

CONFIGS = sorted(str(path) for path in Path("configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS)
def test_every_shipped_configuration_is_valid_on_a_cpu(path):
    cfg = load_config(path, ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False"])
    prepare_datasets(cfg)
    assert cfg.MODEL.META_ARCHITECTURE == "PosSAM"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.ENSEMBLE.NAME", "mace"], r"MODEL.ENSEMBLE.NAME is 'mace'.*geometric.*mase.*Did you mean 'mase'"),
        (["MODEL.ENSEMBEL.NAME", "mase"], r"MODEL\.ENSEMBLE"),
        (["TEST.COMPARE", "['ldb']"], r"TEST.COMPARE is 'ldb'.*Did you mean 'ldp'"),
        (["TEST.TASKS", "['panoptik']"], r"TEST.TASKS is 'panoptik'.*Did you mean 'panoptic'"),
        (["INPUT.AUGMENTATION", "crop"], r"INPUT.AUGMENTATION is 'crop'.*lsj"),
        (["INPUT.AUGMENTATION", "lsj"], r"INPUT.CACHE_FEATURES needs INPUT.AUGMENTATION 'flip'"),
        (["SOLVER.AMP.ENABLED", "True"], r"SOLVER.AMP.ENABLED needs a CUDA device"),
        (["MODEL.META_ARCHITECTURE", "PosSAN"], r"Did you mean 'PosSAM'"),
        (["INPUT.IMAGE_SIZE", "0"], r"INPUT.IMAGE_SIZE is 0"),
        (["INPUT.PAD_TO_SQUARE", "False"], r"set INPUT.PAD_TO_SQUARE True"),
        (["SOLVER.MAX_ITER", "0"], r"SOLVER.MAX_ITER is 0"),
        (["SOLVER.IMS_PER_BATCH", "0"], r"SOLVER.IMS_PER_BATCH is 0"),
        (["TEST.OBJECT_THRESHOLD", "3.0"], r"TEST.OBJECT_THRESHOLD is 3.0.*between 0 and 1"),
        (["TEST.TASKS", "['semantic']"], r"TEST.COMPARE and TEST.PICTURES need 'panoptic'"),
        (["TEST.TASKS", "[]", "TEST.COMPARE", "[]", "TEST.PICTURES", "0"], r"need 'panoptic'"),
        (["MODEL.DEVICE", "cuda0"], r"MODEL.DEVICE is 'cuda0'"),
    ],
)
def test_a_bad_key_or_value_names_the_valid_ones(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_config("configs/mini/possam.yaml", overrides)


def test_an_unknown_dataset_names_the_known_ones():
    cfg = load_config("configs/mini/possam.yaml", ["DATASETS.TEST", "['mini_b_rapport']"])
    with pytest.raises(ValueError, match=r"DATASETS.TEST.*mini_b_rapport.*mini_b_report"):
        prepare_datasets(cfg)


@pytest.mark.parametrize("content", ["- a\n- b\n", "MODEL: [unclosed\n"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, content):
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match="odd.yaml is not a YAML mapping"):
        load_config(path)


def test_a_missing_configuration_is_named():
    with pytest.raises(FileNotFoundError, match="no_such.yaml"):
        load_config("configs/no_such.yaml")


def test_every_ensemble_can_be_set_constant_by_constant():
    cfg = load_config("configs/mini/possam.yaml", ["MODEL.ENSEMBLE.MASE.ALPHA", "0.25"])
    assert cfg.MODEL.ENSEMBLE.MASE.ALPHA == 0.25
    assert {name.upper() for name, _ in ENSEMBLE_REGISTRY} <= set(cfg.MODEL.ENSEMBLE)
