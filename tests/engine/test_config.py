"""A configuration is refused at the start, with the key and the valid values."""

import json
import re
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest

from possam.classifiers.ensembles import ENSEMBLE_REGISTRY
from possam.config import default_config, keys_of, unused_settings
from possam.config.tree import flatten
from possam.config.unused import INSTEAD
from possam.d2.config import CfgNode, get_cfg
from possam.engine import load_config, prepare_datasets
from possam.engine.config import schedule_warning
from possam.vocabulary import Vocabulary

ON_CPU = ["MODEL.DEVICE", "cpu"]
PATHS = [key.name for key in keys_of("PosSAM").values() if key.path]
CONFIGS = sorted(str(path) for path in Path("configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS)
def test_every_shipped_configuration_is_valid_on_a_cpu(path):
    cfg = load_config(path, ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False", "DATASETS.CLASS_NAMES", ""])
    prepare_datasets(cfg)


@pytest.mark.parametrize("path", CONFIGS)
def test_every_shipped_configuration_declares_its_version(path):
    """Without one, Detectron2 warns at every load that it assumes the latest."""
    assert CfgNode.load_yaml_with_base(path)["VERSION"] == get_cfg().VERSION


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.ENSEMBLE.NAME", "mace"], r"MODEL.ENSEMBLE.NAME is 'mace'.*geometric.*mase.*Did you mean 'mase'"),
        (["MODEL.ENSEMBEL.NAME", "mase"], r"MODEL\.ENSEMBLE"),
        (["TEST.ENSEMBLES", "['ldb']"], r"TEST.ENSEMBLES\[0\] is 'ldb'.*Did you mean 'ldp'"),
        (["TEST.TASKS", "['panoptik']"], r"TEST.TASKS is 'panoptik'.*Did you mean 'panoptic'"),
        (["INPUT.AUGMENTATION", "crop"], r"INPUT.AUGMENTATION is 'crop'.*lsj"),
        (["DATASETS.CLASS_NAMES", "fcclib"], r"DATASETS.CLASS_NAMES: .*'fcclib'.*nor a folder.*Did you mean 'fcclip'"),
        (["INPUT.PAD_TO_SQUARE", "False"], r"TEST.BATCH_SIZE is 16 without INPUT.PAD_TO_SQUARE"),
        (["INPUT.AUGMENTATION", "lsj"], r"INPUT.CACHE_FEATURES needs INPUT.AUGMENTATION 'flip'"),
        (["SOLVER.AMP.ENABLED", "True"], r"SOLVER.AMP.ENABLED needs a CUDA device"),
        (["MODEL.META_ARCHITECTURE", "PosSAN"], r"Did you mean 'PosSAM'"),
        (["INPUT.IMAGE_SIZE", "0"], r"INPUT.IMAGE_SIZE is 0"),
        (["INPUT.PAD_TO_SQUARE", "False", "TEST.BATCH_SIZE", "1"], r"set INPUT.PAD_TO_SQUARE True"),
        (["SOLVER.MAX_ITER", "0"], r"SOLVER.MAX_ITER is 0"),
        (["SOLVER.IMS_PER_BATCH", "0"], r"SOLVER.IMS_PER_BATCH is 0"),
        (["MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "3.0"], r"OBJECT_MASK_THRESHOLD is 3.0.*between 0 and 1"),
        (["TEST.TASKS", "['semantic']"], r"TEST.NUM_VISUALIZATIONS needs 'panoptic'"),
        (["TEST.TASKS", "[]"], r"TEST.TASKS is empty"),
        (["TEST.AUG.ENABLED", "True", "TEST.AUG.SCALES", "[1.0, 0.0]"], r"TEST.AUG.SCALES\[1\] is 0.0, but"),
        (["TEST.AUG.ENABLED", "True", "TEST.AUG.SCALES", "[]"], r"TEST.AUG.SCALES is \[\]"),
        (["FLOAT32_PRECISION", "hihg"], r"FLOAT32_PRECISION is 'hihg'.*Did you mean 'high'"),
        (["TEST.EXPECTED_RESULTS", "[['a', 'PQ', 1.0, 0.1]]"], r"TEST.EXPECTED_RESULTS is .*must be empty"),
        (["INPUT.FEATURE_CACHE_DIR", ""], r"INPUT.FEATURE_CACHE_DIR is '', but must be a folder"),
        (["MODEL.ENSEMBLE.MASE.ALPHA", "1.5"], r"MODEL.ENSEMBLE.MASE: .*alpha"),
        (["MODEL.ENSEMBLE.MASE.RULE", "posterio"], r"MODEL.ENSEMBLE.MASE: .*posterior"),
        (["MODEL.ENSEMBLE.GEOMETRIC.KAPPA", "-1.0"], r"MODEL.ENSEMBLE.GEOMETRIC: .*kappa"),  # TEST.ENSEMBLES has it
        (["TEST.AUG.ENABLED", "True", "TEST.AUG.SCALES", "[1.0, 1e-9]"], r"TEST.AUG.SCALES is \[1.0, 1e-09\]"),
        (["MODEL.DEVICE", "cuda0"], r"MODEL.DEVICE is 'cuda0'"),
        (["MODEL.NECK.NAME", "fnp"], r"MODEL.NECK.NAME is 'fnp'.*fpn, resample.*Did you mean 'fpn'"),
        (
            ["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "twoway"],
            r"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME is 'twoway'.*mask2former, two_way.*'two_way'",
        ),
        (["MODEL.EMBEDDING.NAME", "ldpp"], r"MODEL.EMBEDDING.NAME is 'ldpp'.*ldp, clip.*Did you mean 'ldp'"),
        (["MODEL.LDP.STREAMS", "['dino']"], r"MODEL.LDP.STREAMS.*\['sam', 'clip'\].*\['dino'\]"),
        (["MODEL.CLIP.NAME", "convnext_larg_d_320"], r"MODEL.CLIP.NAME is .*Did you mean 'convnext_large_d_320'"),
        (["MODEL.SAM.NAME", "vit_x"], r"MODEL.SAM.NAME is 'vit_x'.*vit_b, vit_l, vit_h"),
        (["MODEL.TRAIN_VOCABULARY", "coco_panoptik"], r"MODEL.TRAIN_VOCABULARY: .*coco_panoptic"),
        (["MODEL.DEVICE", "meta"], r"MODEL.DEVICE is 'meta'"),
        (["OUTPUT_DIR", ""], r"OUTPUT_DIR is '', but must be a folder"),
        (["SOLVER.LR_SCHEDULER_NAME", "WarmupCosinLR"], r"LR_SCHEDULER_NAME is .*Did you mean 'WarmupCosineLR'"),
        (["SOLVER.WARMUP_METHOD", "cubic"], r"SOLVER.WARMUP_METHOD is 'cubic'.*linear, constant"),
        (["SOLVER.NON_FINITE", "ignore"], r"SOLVER.NON_FINITE is 'ignore'.*stop, skip"),
        (["SOLVER.GRAD_ACCUM_STEPS", "3"], r"SOLVER.IMS_PER_BATCH is 8.*multiple of SOLVER.GRAD_ACCUM_STEPS"),
        (["DATASETS.CHECK", "half"], r"DATASETS.CHECK is 'half'.*full, sizes, none"),
        (["MODEL.MASK_FORMER.IOU_WEIGHT", "0.0"], r"MASK_FORMER.IOU_WEIGHT is 0.*MODEL.MASK_FORMER.IOU_HEAD False"),
    ],
)
def test_a_bad_key_or_value_names_the_valid_ones(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_config("configs/mini/possam.yaml", overrides)


def test_ensembles_can_be_compared_without_a_panoptic_task():
    cfg = load_config("configs/mini/possam.yaml", ["TEST.TASKS", "['semantic']", "TEST.NUM_VISUALIZATIONS", "0"])
    assert cfg.TEST.ENSEMBLES


def test_an_unknown_dataset_names_the_known_ones():
    cfg = load_config("configs/mini/possam.yaml", ["DATASETS.TEST", "['mini_b_rapport']"])
    with pytest.raises(ValueError, match=r"DATASETS.TEST.*mini_b_rapport.*mini_b_report"):
        prepare_datasets(cfg)


@pytest.mark.parametrize("content", ["- a\n- b\n", "MODEL: [unclosed\n"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, content):
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match="odd.yaml is not (a YAML mapping|plain YAML)"):
        load_config(path)


def test_a_missing_configuration_is_named():
    with pytest.raises(FileNotFoundError, match="no_such.yaml"):
        load_config("configs/no_such.yaml")


def test_a_later_file_holds_over_those_before_it(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    base = Path("configs/mini/possam.yaml").absolute()
    first.write_text(f"_BASE_: {base}\nSEED: 5\nTEST: {{DETECTIONS_PER_IMAGE: 7}}\n")
    second.write_text("TEST: {DETECTIONS_PER_IMAGE: 8, TASKS: [panoptic]}\nDATASETS: {TEST: [mini_b_selection]}\n")
    cfg = load_config([first, str(second)], ["OUTPUT_DIR", "here"])
    assert (cfg.SEED, cfg.TEST.DETECTIONS_PER_IMAGE, cfg.TEST.TASKS, cfg.OUTPUT_DIR) == (5, 8, ["panoptic"], "here")
    assert (tuple(cfg.DATASETS.TRAIN), tuple(cfg.DATASETS.TEST)) == (("mini_a_train",), ("mini_b_selection",))
    assert load_config([second, first]).TEST.DETECTIONS_PER_IMAGE == 7
    assert load_config([first]) == load_config(first)
    cpu = ["MODEL.DEVICE", "cpu"]
    assert load_config([], cpu) == load_config("", cpu) == load_config(None, cpu)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("TEST: {DETECTION_PER_IMAGE: 8}\n", "two.yaml: .*DETECTION_PER_IMAGE.*TEST.DETECTIONS_PER_IMAGE"),
        ("TEST: {DETECTIONS_PER_IMAGE: many}\n", "two.yaml: .*TEST.DETECTIONS_PER_IMAGE"),
        ("TEST: {DETECTIONS_PER_IMAGE: }\n", "two.yaml: .*TEST.DETECTIONS_PER_IMAGE is empty"),
        ("- TEST\n", "two.yaml is not a YAML mapping"),
        ("_BASE_: gone.yaml\n", "two.yaml is based on 'gone.yaml'"),
        (None, "No configuration at .*two.yaml"),
    ],
)
def test_of_several_files_the_wrong_one_is_named(tmp_path, content, message):
    path = tmp_path / "two.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_config(["configs/mini/possam.yaml", path, "configs/eval/all.yaml"])
    assert "possam.yaml" not in str(error.value)


def test_every_ensemble_can_be_set_constant_by_constant():
    cfg = load_config("configs/mini/possam.yaml", ["MODEL.ENSEMBLE.MASE.ALPHA", "0.25"])
    assert cfg.MODEL.ENSEMBLE.MASE.ALPHA == 0.25
    assert {name.upper() for name in ENSEMBLE_REGISTRY} <= set(cfg.MODEL.ENSEMBLE)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], []),
        (["SOLVER.BASE_LR", "0.5", "OUTPUT_DIR", "elsewhere", "SEED", "3"], []),
        (["SOLVER.MOMENTUM", "0.8"], ["SOLVER.MOMENTUM (this project does not read it)"]),
        (["MODEL.PIXEL_MEAN", "[1.0, 2.0, 3.0]"], ["MODEL.PIXEL_MEAN (this project does not read it)"]),
        (["INPUT.MIN_SIZE_TEST", "640"], ["INPUT.MIN_SIZE_TEST (INPUT.RESIZE_TEST is not shortest_edge"]),
        (["INPUT.MIN_SIZE_TEST", "640", "INPUT.RESIZE_TEST", "shortest_edge", "INPUT.PAD_TO_SQUARE", "False",
          "TEST.BATCH_SIZE", "1", "INPUT.CACHE_FEATURES", "False"], []),
        (["DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False"], ["DATALOADER.FILTER_EMPTY_ANNOTATIONS"]),
        (["DATALOADER.SAMPLER_TRAIN", "Other", "VIS_PERIOD", "7"], ["DATALOADER.SAMPLER_TRAIN", "VIS_PERIOD"]),
        (["MODEL.ENSEMBLE.GEOMETRIC.ALPHA", "0.1", "TEST.ENSEMBLES", "[]"], ["MODEL.ENSEMBLE.GEOMETRIC.ALPHA"]),
        (["MODEL.ENSEMBLE.GEOMETRIC.ALPHA", "0.1"], []),  # TEST.ENSEMBLES has it
        (
            ["MODEL.MASK_FORMER.TWO_WAY_LAYERS", "4"],
            ["MODEL.MASK_FORMER.TWO_WAY_LAYERS (MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME is not two_way)"],
        ),
        (
            ["MODEL.EMBEDDING.NAME", "clip", "MODEL.LDP.LAYERS", "3"],
            ["MODEL.LDP.HEADS", "MODEL.LDP.LAYERS (MODEL.EMBEDDING.NAME is not ldp)"],
        ),
        (
            ["MODEL.MASK_FORMER.IOU_HEAD", "False", "MODEL.MASK_FORMER.IOU_WEIGHT", "1.0"],
            ["MODEL.MASK_FORMER.IOU_WEIGHT (MODEL.MASK_FORMER.IOU_HEAD is not True)"],
        ),
        (["TEST.AUG.FLIP", "False"], ["TEST.AUG.FLIP (TEST.AUG.ENABLED is not True)"]),
        (
            ["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "two_way", "MODEL.NECK.NAME", "resample"],
            [
                "MODEL.MASK_FORMER.DEC_LAYERS", "MODEL.NECK.NAME",
                "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_DIM_FEEDFORWARD", "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS",
            ],  # fmt: skip
        ),
    ],
)
def test_a_setting_without_effect_is_named_in_a_warning(overrides, expected, caplog):
    with caplog.at_level("WARNING", logger="possam"):
        cfg = load_config("configs/mini/possam.yaml", overrides)
    found = unused_settings(cfg)
    assert len(found) == len(expected)
    assert all(got.startswith(start) for got, start in zip(found, expected, strict=True))
    warnings = [record.message for record in caplog.records if "no effect" in record.message]
    assert len(warnings) == bool(expected)
    assert all(key in warnings[0] for key in found)


def test_keys_that_others_stand_for_exist():
    known = flatten(default_config())
    assert set(INSTEAD) | set(INSTEAD.values()) <= set(known)
    assert set(keys_of("PosSAM")) <= set(known)


def test_a_configuration_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    planted, config = tmp_path / "planted", tmp_path / "bad.yaml"
    call = f"!!python/object/apply:os.mkdir ['{planted}']"
    config.write_text(f"OUTPUT_DIR: {call}\n")
    with pytest.raises(ValueError, match=r"bad\.yaml is not plain YAML .*python/object/apply"):
        load_config(config)
    assert not planted.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("MODEL: &a\n  SAM: *a\n", r"odd.yaml unfolds to over 100,000 values"),
        ("_BASE_: odd.yaml\n", r"odd.yaml is its own _BASE_"),
        ("_BASE_: none.yaml\n", r"odd.yaml is based on 'none.yaml', and there is no file .*none.yaml"),
        ("_BASE_: http://localhost:9/a.yaml\n", r"odd.yaml: _BASE_ must be the path of another YAML file"),
        ("_BASE_: 3\n", r"odd.yaml: _BASE_ must be the path of another YAML file, but is 3"),
        ("[" * 2000, r"odd.yaml is not plain YAML"),
        ("SOLVER: {MAX_ITER: " + "9" * 5000 + "}", r"odd.yaml is not plain YAML"),
        ("SOLVER: {MAX_ITER: 0x" + "f" * 5000 + "}", r"odd.yaml has a number of more than 300 digits"),
        ("1: 2\n", r"odd.yaml has the key 1, but keys are names"),
        ("SEED: 1\nSEED: 2\n", r"odd.yaml has the key 'SEED' twice, in line 1 and in line 2"),
        ("SOLVER:\n  STEPS: [1e2]\n", r"SOLVER.STEPS\[0\] is '1e2', .* In YAML, 1e2 is text; write 100"),
        ("MODEL: ~\n", r"odd.yaml: a setting has the wrong type.* for config key: MODEL$"),
        (f"SEED: {'x' * 5000}\n", r"odd.yaml: a setting has the wrong type.* for config key: SEED$"),
        ("OUTPUT_DIR: $NO_SUCH_FOLDER/a\n", r"OUTPUT_DIR: .* the environment variable \$NO_SUCH_FOLDER, which is not"),
        ("MODEL: {DEVICE: cpu}\nSOLVER: {MAX_ITER: ~}\n", r"SOLVER.MAX_ITER is empty, but must be of type int"),
        ("MODEL: {DEVICE: cpu}\nTEST: {TASKS: ~}\n", r"TEST.TASKS is empty, but must be of type list"),
    ],
)
def test_a_file_that_would_hang_crash_or_mean_nothing_is_named(tmp_path, content, message):
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    with pytest.raises(ValueError if "none.yaml" not in content else FileNotFoundError, match=message):
        load_config(path)


def test_a_file_of_a_few_lines_cannot_stand_for_more_values_than_fit_into_memory(tmp_path):
    path = tmp_path / "odd.yaml"
    lines = [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9)]
    path.write_text("\n".join(["a0: &a0 [x, x, x, x]", *lines, "DATASETS: {PANOPTIC: *a9}"]))
    with pytest.raises(ValueError, match="odd.yaml unfolds to over 100,000 values"):
        load_config(path)


def test_lists_for_names_of_streams_are_named():
    with pytest.raises(ValueError, match="MODEL.LDP.STREAMS"):
        load_config(None, ["MODEL.DEVICE", "cpu", "MODEL.LDP.STREAMS", "[['a']]"])


@pytest.mark.parametrize(
    "overrides", [[3, "x"], ["SOLVER.MAX_ITER", "\ud800"], ["\ud800", "1"], ["MODEL", "1"], ["TEST.NUM_VISUALIZATIONS"]]
)
def test_overrides_that_are_none_are_named(overrides):
    with pytest.raises(ValueError, match="the overrides") as caught:
        load_config(None, overrides)
    str(caught.value).encode()


def test_a_key_twice_in_a_file_that_another_is_based_on_is_named(tmp_path):
    (tmp_path / "base.yaml").write_text("DATASETS:\n  TRAIN: [a]\nDATASETS:\n  TEST: []\n")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\nDATASETS:\n  TRAIN: [b]\n")
    with pytest.raises(ValueError, match=r"base.yaml has the key 'DATASETS' twice, in line 1 and in line 3"):
        load_config(tmp_path / "own.yaml")


@pytest.mark.parametrize("key", sorted({*PATHS} - {"DATASETS.CLASS_NAMES"}))
def test_the_home_folder_is_written_out_in_every_path(key, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Vocabulary.load("mini_a").to_json(tmp_path / "a.json")
    tree = reduce(lambda inner, part: {part: inner}, reversed(key.split(".")), "~/a.json")
    (tmp_path / "own.yaml").write_text(json.dumps(tree))
    for cfg in (load_config("~/own.yaml", ON_CPU), load_config(None, [key, "~/a.json", *ON_CPU])):
        assert reduce(getitem, key.split("."), cfg) == str(tmp_path / "a.json")


def test_the_home_folder_of_class_names_is_written_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "fc-clip").mkdir()
    assert load_config(None, ["DATASETS.CLASS_NAMES", "~/fc-clip", *ON_CPU]).DATASETS.CLASS_NAMES == str(
        tmp_path / "fc-clip"
    )


def test_an_unknown_home_folder_is_named_and_tags_and_addresses_stay():
    with pytest.raises(ValueError, match=r"OUTPUT_DIR: ~no_such_user/run begins with ~no_such_user, a home folder"):
        load_config(None, ["OUTPUT_DIR", "~no_such_user/run", *ON_CPU])
    cfg = load_config(None, ["MODEL.WEIGHTS", "https://a.b/c.pth", "MODEL.CLIP.WEIGHTS", "openai", *ON_CPU])
    assert (cfg.MODEL.WEIGHTS, cfg.MODEL.CLIP.WEIGHTS, cfg.MODEL.SAM.WEIGHTS) == ("https://a.b/c.pth", "openai", "")


def test_a_warm_up_that_does_not_end_before_the_training_is_doubtful():
    warned = load_config("configs/mini/possam.yaml", ["SOLVER.MAX_ITER", "20", "SOLVER.WARMUP_ITERS", "20"])
    assert "SOLVER.WARMUP_ITERS is 20 and SOLVER.MAX_ITER 20" in schedule_warning(warned)
    assert schedule_warning(load_config("configs/mini/possam.yaml")) == ""


def test_every_path_is_known():
    keys = [key for key, value in flatten(default_config()).items() if isinstance(value, str)]
    words = "DIR|FOLDER|CACHE|WEIGHTS|TRAIN_VOCABULARY|CLASS_NAMES|DETECTIONS$"
    assert set(PATHS) == {key for key in keys if re.search(words, key)}
