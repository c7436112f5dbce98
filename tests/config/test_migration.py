"""Former names of settings are taken over from files, command lines, saved models and checkpoints."""

from pathlib import Path

import pytest
import torch
import yaml

from possam.config import SavedConfig, keys_of, load, migrate
from possam.config.migration import RENAMED
from possam.config.tree import flatten, nest
from possam.d2.config import get_cfg
from possam.engine import load_config
from possam.engine.settings import differences, training_settings
from possam.models import PosSAM, model_specs

FORMER = Path(__file__).parent / "possam_mini_former_keys.yaml"
SHIPPED = Path("possam/shipped/possam-mini")
MINI = Path("configs/mini").absolute()


def write(path, content):
    path.write_text(content)
    return path


def warnings(caplog):
    return [record.message for record in caplog.records if "new names" in record.message]


def test_every_present_name_is_a_key():
    known = {key for spec in model_specs() for key in keys_of(spec.name)}
    assert set(RENAMED.values()) <= known and not set(RENAMED) & known
    assert len(set(RENAMED.values())) == len(RENAMED)


def test_a_file_of_former_names_means_the_same_as_one_of_present_names(tmp_path, caplog):
    former = write(
        tmp_path / "former.yaml",
        f"_BASE_: {MINI}/possam.yaml\n"
        "MODEL: {DECODER: {LAYERS: 6, QUERIES: 9, POINTS: 2}, LOSS: {MASK: 1.5}, PYRAMID: {NAME: resample}}\n"
        "TEST: {TOP_K: 7, OBJECT_THRESHOLD: 0.3, COMPARE: [clip], PICTURES: 1}\nSOLVER: {CHECKPOINT_KEEP: 3}\n",
    )
    present = write(
        tmp_path / "present.yaml",
        f"_BASE_: {MINI}/possam.yaml\n"
        "MODEL:\n"
        "  MASK_FORMER: {DEC_LAYERS: 7, NUM_OBJECT_QUERIES: 9, MASK_WEIGHT: 1.5, TEST: {OBJECT_MASK_THRESHOLD: 0.3}}\n"
        "  SEM_SEG_HEAD: {DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS: 2}\n  NECK: {NAME: resample}\n"
        "TEST: {DETECTIONS_PER_IMAGE: 7, ENSEMBLES: [clip], NUM_VISUALIZATIONS: 1}\nSOLVER: {MAX_TO_KEEP: 3}\n",
    )
    assert load_config(present) == load_config(former)
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{former}: ")
    assert "MODEL.DECODER.LAYERS 6 is now MODEL.MASK_FORMER.DEC_LAYERS 7; " in warning
    assert "TEST.TOP_K is now TEST.DETECTIONS_PER_IMAGE" in warning


def test_a_file_holds_over_the_one_it_is_based_on_whatever_names_they_use(tmp_path):
    write(tmp_path / "base.yaml", "TEST: {DETECTIONS_PER_IMAGE: 5}\nMODEL: {DECODER: {QUERIES: 5}}\n")
    leaf = write(
        tmp_path / "leaf.yaml",
        "_BASE_: base.yaml\nTEST: {TOP_K: 6}\nMODEL: {MASK_FORMER: {NUM_OBJECT_QUERIES: 6}, DEVICE: cpu}\n",
    )
    cfg = load_config([leaf])
    assert (cfg.TEST.DETECTIONS_PER_IMAGE, cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES) == (6, 6)


def test_overrides_have_former_names_too(caplog):
    former = ["TEST.PICTURES", "0", "TEST.COMPARE", "[]", "MODEL.DECODER.LAYERS", "6", "SOLVER.ACCUMULATE", "2"]
    present = ["TEST.NUM_VISUALIZATIONS", "0", "TEST.ENSEMBLES", "[]", "MODEL.MASK_FORMER.DEC_LAYERS", "7",
               "SOLVER.GRAD_ACCUM_STEPS", "2"]  # fmt: skip
    assert load_config(MINI / "possam.yaml", present) == load_config(MINI / "possam.yaml", former)
    (warning,) = warnings(caplog)
    assert "TEST.PICTURES is now TEST.NUM_VISUALIZATIONS; " in warning
    later = ["SOLVER.GRAD_ACCUM_STEPS", "2", "SOLVER.ACCUMULATE", "4", "SOLVER.GRAD_ACCUM_STEPS", "8"]
    assert load_config(MINI / "possam.yaml", later).SOLVER.GRAD_ACCUM_STEPS == 8


def test_a_task_of_a_former_name_has_its_present_one(tmp_path, caplog):
    file = write(tmp_path / "c.yaml", f"_BASE_: {MINI}/possam.yaml\nTEST: {{TASKS: [panoptic, quality]}}\n")
    assert load_config(file).TEST.TASKS == ["panoptic", "mask_quality"]
    assert load_config(MINI / "possam.yaml", ["TEST.TASKS", "['quality', 'panoptic']"]).TEST.TASKS == [
        "mask_quality", "panoptic"
    ]
    assert migrate({"TEST.TASKS": ["panoptic"]}) == ({"TEST.TASKS": ["panoptic"]}, [])
    assert len(warnings(caplog)) == 2


def test_a_value_that_is_none_is_refused_by_its_present_name(tmp_path):
    with pytest.raises(ValueError, match="MODEL.MASK_FORMER.DEC_LAYERS"):
        load_config(MINI / "possam.yaml", ["MODEL.DECODER.LAYERS", "many"])
    with pytest.raises(ValueError, match="MODEL.MASK_FORMER.DEC_LAYERS is 5, but must be 1 more than a multiple of 3"):
        load_config(MINI / "possam.yaml", ["MODEL.DECODER.LAYERS", "4"])


def test_a_setting_by_both_of_its_names_is_refused(tmp_path):
    both = write(tmp_path / "both.yaml", "SOLVER: {ACCUMULATE: 2, GRAD_ACCUM_STEPS: 2}\n")
    message = "both.yaml: SOLVER.ACCUMULATE is the former name of SOLVER.GRAD_ACCUM_STEPS, and both are set; remove"
    with pytest.raises(ValueError, match=message):
        load_config(both)
    with pytest.raises(ValueError, match=message):
        SavedConfig.read(both)


def test_the_whole_configuration_of_an_earlier_run_is_taken_over():
    """It has Detectron2's TEST.DETECTIONS_PER_IMAGE, which nothing read, beside TEST.TOP_K."""
    settings, _ = migrate({"TEST.TOP_K": 300, "TEST.DETECTIONS_PER_IMAGE": 100})
    assert settings == {"TEST.DETECTIONS_PER_IMAGE": 300}
    with pytest.raises(ValueError, match="TEST.TOP_K is the former name"):
        migrate({"TEST.TOP_K": 300, "TEST.DETECTIONS_PER_IMAGE": 200})


def test_the_shipped_model_is_the_same_with_its_former_configuration(tmp_path, caplog):
    former = SavedConfig.read(FORMER)
    assert former.over_defaults() == SavedConfig.read(SHIPPED / "config.yaml").over_defaults()
    assert len(warnings(caplog)) == 1
    for file in ("model.safetensors", "vocabulary.json"):
        (tmp_path / file).symlink_to((SHIPPED / file).absolute())
    (tmp_path / "config.yaml").symlink_to(FORMER)
    model, shipped = PosSAM.from_pretrained(tmp_path), PosSAM.from_pretrained(SHIPPED)
    expected = shipped.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def former_fcclip(**changes):
    """What an earlier version saved of FC-CLIP: settings of every system."""
    settings = {
        "MODEL.META_ARCHITECTURE": "FcClip", "MODEL.DECODER.NAME": "mask2former", "MODEL.DECODER.LAYERS": 3,
        "MODEL.SAM.NAME": "vit_b", "MODEL.SAM.WEIGHTS": "", "MODEL.LDP.STREAMS": ["sam", "clip"],
        "MODEL.PYRAMID.NAME": "fpn", "MODEL.FC_CLIP.ENSEMBLE_ON_VALID_MASK": True, "MODEL.DEVICE": "cpu",
    }  # fmt: skip
    return settings | {key.replace("__", "."): value for key, value in changes.items()}


def test_settings_of_other_systems_that_were_saved_with_a_model_are_left_out(caplog):
    cfg = SavedConfig(former_fcclip(), source="a model").over_defaults()
    assert "SAM" not in cfg.MODEL and cfg.MODEL.MASK_FORMER.DEC_LAYERS == 4 and cfg.MODEL.FC_CLIP.ENSEMBLE_ON_VALID_MASK
    assert not any("other systems" in record.message for record in caplog.records)
    SavedConfig(former_fcclip(MODEL__SAM__NAME="mini"), source="a model").over_defaults()
    assert "a model: settings of other systems are not read: MODEL.SAM.NAME." in caplog.text


def test_the_same_of_an_earlier_run(tmp_path, caplog):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(nest(former_fcclip(MODEL__SAM__NAME="mini"))))
    cfg = load(path)
    assert "SAM" not in cfg.MODEL and cfg.MODEL.MASK_FORMER.DEC_LAYERS == 4
    (warning,) = warnings(caplog)
    assert warning.endswith("; of other systems, and not read: MODEL.SAM.NAME.")


def test_a_key_of_another_system_is_refused(tmp_path):
    owners = "OVSAMDistillation and PosSAM and SamClip"
    message = f"MODEL.SAM.NAME is a key of {owners}, but MODEL.META_ARCHITECTURE is FcClip; leave it out, or set"
    path = write(tmp_path / "odd.yaml", f"_BASE_: {MINI}/fcclip.yaml\nMODEL: {{SAM: {{NAME: mini}}}}\n")
    with pytest.raises(ValueError, match=f"odd.yaml: {message}"):
        load_config(path)
    with pytest.raises(ValueError, match=f"the overrides .*{message}"):
        load_config(MINI / "fcclip.yaml", ["MODEL.SAM.NAME", "mini"])
    with pytest.raises(ValueError, match=f"possam.yaml: {message}"):
        load_config(MINI / "possam.yaml", ["MODEL.META_ARCHITECTURE", "FcClip"])


def test_a_checkpoint_of_an_earlier_version_is_no_other_run():
    present = training_settings(load_config(MINI / "possam.yaml", ["MODEL.DECODER.LAYERS", "6"]))
    former = {new: old for old, new in RENAMED.items()}
    saved = {former.get(key, key): value for key, value in present.items()} | {"MODEL.DECODER.LAYERS": 6}
    assert "MODEL.MASK_FORMER.DEC_LAYERS" not in saved
    assert differences(saved, present, list(present)) == []
    changed = differences(saved | {"MODEL.DECODER.LAYERS": 9}, present, list(present))
    assert changed == ["MODEL.MASK_FORMER.DEC_LAYERS was 10, is 7"]


def test_nothing_of_detectron2_has_a_former_name():
    assert not set(RENAMED) & set(flatten(get_cfg()))
