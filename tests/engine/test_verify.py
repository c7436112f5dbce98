"""Every configuration of the project builds its model and finds its datasets, without weights and without data."""

import logging
from pathlib import Path

import pytest
import torch
import yaml

from possam.config import read_with_bases, setting
from possam.engine.config import load_config
from possam.engine.verify import find_configs, is_test_set, verify_config

CPU = ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False"]
TEST_SETS = [path for path in find_configs("configs") if is_test_set(path)]
WHOLE = [path for path in find_configs("configs") if path not in TEST_SETS]
PARTS = sorted(set(Path("configs").rglob("*.yaml")) - set(WHOLE))
EVALUATED = ["a847", "ade20k", "all", "cityscapes", "coco", "lvis", "mapillary", "pas20", "pas21", "pc459", "pc59"]
PART_NAMES = ["base", "mini/base", "coco/possam_tiny", "ovsam/base", "ovsam/published"]
AS_FCCLIP = ["a847", "cityscapes", "mapillary", "pas20", "pas21", "pc459", "pc59"]


@pytest.mark.parametrize("path", WHOLE, ids=str)
def test_every_configuration_builds_and_has_no_setting_without_effect(path):
    line = verify_config(path)
    architecture = setting(read_with_bases(path), "MODEL.META_ARCHITECTURE") or "PosSAM"
    assert line.startswith(f"{path}: {architecture}, ")
    assert "without effect" not in line


@pytest.mark.parametrize("path", PARTS, ids=str)
def test_every_part_builds_once_a_training_vocabulary_is_named(path):
    architecture = "OVSAM" if "ovsam" in str(path) else "PosSAM"
    assert f": {architecture}, " in verify_config(path, ["MODEL.TRAIN_VOCABULARY", "coco_panoptic"])
    with pytest.raises(ValueError, match="names no training vocabulary"):
        verify_config(path)


def test_nothing_else_is_taken_for_a_part():
    fcclip = {Path(f"configs/fcclip/eval/{name}.yaml") for name in AS_FCCLIP}
    assert set(TEST_SETS) == {*fcclip, *(Path(f"configs/eval/{name}.yaml") for name in EVALUATED)}
    parts = {Path(f"configs/{name}.yaml") for name in PART_NAMES}
    assert set(PARTS) == {*parts, *TEST_SETS}


@pytest.mark.parametrize("size", ["b", "l", "h"])
def test_every_size_trains_both_ways_and_is_tested_on_everything(size):
    model = f"configs/coco/possam_vit_{size}.yaml"
    for path in TEST_SETS:
        line = verify_config([model, path])
        assert line.startswith(f"{model} + {path}: PosSAM, ") and "without effect" not in line
        assert "trains coco_panoptic_train (133 classes)" in line
        assert f"tests {yaml.safe_load(path.read_text(encoding='utf-8'))['DATASETS']['TEST'][0]} (" in line
    line = verify_config([f"configs/ade20k/possam_vit_{size}.yaml", "configs/eval/coco.yaml"])
    assert "trains ade20k_panoptic_train (150 classes), tests coco_panoptic_val (133 classes: panoptic" in line
    assert "tests coco_panoptic_val" in verify_config(model)
    assert "trains ade20k_panoptic_train" in verify_config(f"configs/ade20k/possam_vit_{size}.yaml")


def test_the_run_of_all_test_sets_has_those_of_the_single_runs_but_lvis():
    def read(name):
        return yaml.safe_load(Path(f"configs/eval/{name}.yaml").read_text(encoding="utf-8"))["DATASETS"]["TEST"]

    singles = [read(name)[0] for name in EVALUATED if name not in ("all", "lvis")]
    assert sorted(read("all")) == sorted(singles)


@pytest.mark.parametrize(
    ("backbone", "trained", "frozen"),
    [("convnext_large", "20.72", "351.77"), ("rn50", "21.03", ""), ("rn101", "20.90", ""), ("rn50x4", "21.18", "")],
)
def test_fcclip_has_the_published_number_of_parameters(backbone, trained, frozen):
    model = f"configs/fcclip/{backbone}.yaml"
    line = verify_config(model)
    assert f"FcClip, {trained} M trained, {frozen}" in line and "trains coco_panoptic_train (133 classes)" in line
    if backbone == "convnext_large":
        for path in TEST_SETS:
            assert "without effect" not in verify_config([model, path])


@pytest.mark.parametrize("name", AS_FCCLIP)
def test_fcclips_test_sets_differ_in_what_their_protocol_changes(name):
    model = "configs/fcclip/rn50.yaml"
    usual = load_config([model, f"configs/eval/{name}.yaml"], CPU)
    theirs = load_config([model, f"configs/fcclip/eval/{name}.yaml"], CPU)
    assert theirs.DATASETS.TEST == usual.DATASETS.TEST
    if name in ("cityscapes", "mapillary"):
        assert (theirs.INPUT.MIN_SIZE_TEST, theirs.INPUT.MAX_SIZE_TEST) == (1024, 2560)
        assert theirs.TEST.SEMANTIC_RESIZE == "masks"
    else:
        assert (theirs.INPUT.MIN_SIZE_TEST, theirs.INPUT.MAX_SIZE_TEST) == (800, 1333)
        assert theirs.TEST.SEMANTIC_RESIZE == "scores" and theirs.TEST.TASKS == ["semantic"]
    assert theirs.TEST.VOID_COMPETES and theirs.TEST.BATCH_SIZE == 1
    assert theirs.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD == 0.0
    constants = theirs.MODEL.ENSEMBLE.GEOMETRIC
    assert [constants[key] for key in ("ALPHA", "BETA", "KAPPA", "ETA")] == [0.4, 0.8, 1.0, 0.0]


def test_no_two_trainings_write_to_one_folder():
    folders = {}
    for path in WHOLE:
        folders.setdefault(yaml.safe_load(path.read_text(encoding="utf-8")).get("OUTPUT_DIR"), []).append(path)
    assert all(folder and len(paths) == 1 for folder, paths in folders.items())


@pytest.mark.parametrize(
    ("size", "trained", "frozen"), [("b", "25.72", "441.44"), ("l", "25.72", "660.05"), ("h", "25.72", "988.80")]
)
def test_parameters_are_counted(size, trained, frozen):
    line = verify_config(f"configs/coco/possam_vit_{size}.yaml")
    assert f"{trained} M trained, {frozen} M frozen" in line


def test_classes_of_several_training_datasets_are_told():
    both = ["DATASETS.TRAIN", "['coco_panoptic_train', 'ade20k_panoptic_train']"]
    line = verify_config("configs/coco/possam_vit_b.yaml", both)
    assert "trains coco_panoptic_train (133 classes) + ade20k_panoptic_train (150 classes)" in line


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["DATASETS.TEST", "['ade20k_panoptik_val']"], "unknown dataset 'ade20k_panoptik_val'.*ade20k_panoptic_val"),
        (["DATASETS.TEST", "['pascal_voc_20_val']", "TEST.TASKS", "['panoptic']"], "can only be scored on.*semantic"),
        (
            ["DATASETS.TEST", "['pascal_voc_20_val']", "TEST.TASKS", "['semantic', 'instance']"],
            "TEST.TASKS has .*instance",
        ),
        (["DATASETS.TRAIN", "['mini_b_labels']"], "image labels and no masks"),
        (["DATASETS.TEST", "['mini_b_labels']"], "mini_b_labels has no masks, and cannot be scored"),
        (["MODEL.TRAIN_VOCABULARY", "ade20k_150"], "the classes of the first dataset.*133 and 150"),
        (["MODEL.TRAIN_VOCABULARY", "ade20k_15"], "ade20k_15"),
        (["MODEL.SAM.WEIGHTS", "weights/sam_vit_l_0b3195.pth"], "official ones are called sam_vit_b_01ec64.pth"),
        (["MODEL.SAM.WEIGHTS", "weights/mine.pth"], "neither a file nor"),
        (["MODEL.CLIP.WEIGHTS", "laion2b"], "neither a file nor a tag.*laion2b_s29b_b131k_ft_soup"),
        (["MODEL.CLIP.WEIGHTS", "x/convnext_base_w.laion2b_s13b_b82k_augreg.safetensors"], "those of convnext_base_w"),
        (["MODEL.CLIP.NAME", "convnext_larg_d_320"], "convnext_larg_d_320"),
        (["MODEL.MASK_FORMER.DEC_LAYERS", "5"], "multiple of 3"),
        (["MODEL.LDP.HEADS", "7"], "divisor of MODEL.MASK_FORMER.HIDDEN_DIM"),
    ],
)
def test_what_could_not_be_run_is_said(overrides, message):
    with pytest.raises(ValueError, match=message):
        verify_config("configs/coco/possam_vit_b.yaml", overrides)


def test_a_setting_without_effect_is_in_the_line():
    line = verify_config("configs/coco/possam_vit_b.yaml", ["SOLVER.MOMENTUM", "0.8"])
    assert "without effect: SOLVER.MOMENTUM" in line
    line = verify_config("configs/coco/possam_vit_b.yaml", ["SOLVER.WARMUP_ITERS", "400000"])
    assert "; SOLVER.WARMUP_ITERS is 400000 and SOLVER.MAX_ITER 368750" in line


def test_weights_that_are_there_need_no_official_name(tmp_path):
    weights = tmp_path / "mine.pth"
    weights.write_bytes(b"")
    assert "PosSAM" in verify_config("configs/coco/possam_vit_b.yaml", ["MODEL.SAM.WEIGHTS", str(weights)])


def test_files_that_are_no_configurations_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no_such"):
        verify_config("configs/no_such.yaml")
    with pytest.raises(FileNotFoundError, match="no folder"):
        find_configs(tmp_path / "nowhere")
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "orphan.yaml").write_text("_BASE_: gone.yaml\n")
    assert find_configs(tmp_path) == [tmp_path / "list.yaml", tmp_path / "orphan.yaml"]
    with pytest.raises(ValueError, match="list.yaml is not a YAML mapping"):
        verify_config(tmp_path / "list.yaml")
    with pytest.raises(FileNotFoundError, match="gone.yaml"):
        verify_config(tmp_path / "orphan.yaml")


def test_verifying_leaves_torch_and_logging_as_they_were(caplog):
    verify_config("configs/mini/possam.yaml", ["MODEL.LDP.LAYERS", "1"])
    assert torch.zeros(1).device.type == "cpu"
    with caplog.at_level("WARNING"):
        logging.getLogger("possam").warning("heard")
    assert "heard" in caplog.text


def test_a_part_with_a_key_twice_is_not_passed_over(tmp_path):
    (tmp_path / "part.yaml").write_text("SEED: 1\nSEED: 2\n")
    assert find_configs(tmp_path) == [tmp_path / "part.yaml"]
    with pytest.raises(ValueError, match="part.yaml has the key 'SEED' twice"):
        verify_config(tmp_path / "part.yaml")
