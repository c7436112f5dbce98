"""Settings that a checkpoint keeps and a resumed run is compared with."""

import io
from types import SimpleNamespace

import pytest
import torch

from possam.config import keys_of
from possam.engine import Trainer, load_config
from possam.engine.settings import differences, effective_keys, fixed_keys, images_digest, training_settings


def config(*settings):
    return load_config("configs/mini/possam.yaml", ["SEED", "1", *settings])


def test_every_setting_of_the_model_is_compared_or_known_not_to_matter():
    indifferent = ("MODEL.ENSEMBLE.", "MODEL.MASK_FORMER.TEST.", "MODEL.CLIP.MASK_EMBEDDING")  # of the evaluation
    indifferent += ("MODEL.COMPILE", "MODEL.DEVICE", "MODEL.SAM.SEED")  # of the machine, and random weights
    keys = [key for key in keys_of("PosSAM").values() if key.name.startswith("MODEL.") and not key.path]
    assert len(keys) > 30
    assert all(bool(key.resume) != key.name.startswith(indifferent) for key in keys)


def test_the_settings_are_plain_data_without_folders():
    settings = training_settings(config("OUTPUT_DIR", "/secret"))
    file = io.BytesIO()
    torch.save(settings, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == settings
    assert "/" not in repr(settings)
    assert settings["SOLVER.BASE_LR"] > 0 and settings["MODEL.MASK_FORMER.DEC_LAYERS"] == 4 and settings["SEED"] == 1


def test_the_encoders_of_the_system_are_fixed_but_for_their_weights():
    assert {key for key in fixed_keys(config()) if ".SAM" in key or ".CLIP" in key} == {
        "MODEL.SAM.NAME", "MODEL.CLIP.NAME", "MODEL.CLIP.INPUT_SCALE"
    }  # fmt: skip
    other = fixed_keys(load_config("configs/mini/fcclip.yaml"))
    assert "MODEL.CLIP.NAME" in other and not any(".SAM" in key for key in other)


def test_differences_name_the_key_and_both_values():
    mask = "MODEL.MASK_FORMER.MASK_WEIGHT"
    saved = training_settings(config("SOLVER.STEPS", "(3,)", "SOLVER.BASE_LR", "1e-3", mask, "5.0"))
    present = training_settings(config("SOLVER.STEPS", "[3]", "SOLVER.BASE_LR", "1e-4", mask, "2.0", "SEED", "7"))
    changed = ["MODEL.MASK_FORMER.MASK_WEIGHT was 5.0, is 2.0", "SOLVER.BASE_LR was 0.001, is 0.0001"]
    assert differences(saved, present, effective_keys(config())) == changed
    fixed, effective = fixed_keys(config()), effective_keys(config())
    assert differences(saved, present, fixed) == ["SEED was 1, is 7"]
    assert differences(saved, saved, (*fixed, *effective)) == []
    del saved["SOLVER.BASE_LR"]  # of a version that did not have it
    assert differences(saved, present, effective) == changed[:1]


def test_images_are_told_apart_by_name_and_order_wherever_they_are():
    def digest(*names):
        return images_digest([{"file_name": name} for name in names])

    assert digest("/a/1.png", "/a/2.png") == digest("/b/1.png", "/b/2.png")
    assert len({digest("1.png", "2.png"), digest("2.png", "1.png"), digest("1.png", "3.png"), digest("1.png")}) == 4


def check(cfg, saved, *, iteration=2, images="same", words="same"):
    made = SimpleNamespace(cfg=cfg, max_iter=cfg.SOLVER.MAX_ITER, images="same", vocabularies={"second": "same"})
    about = {"images": images, "vocabularies": {"second": words}}
    Trainer.check_state_dict(made, {"iteration": iteration, "config": training_settings(saved), **about})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SEED", "2"), ("SEED", "-1"), ("DATASETS.TRAIN", "('mini_b_selection',)"),
        ("DATALOADER.ASPECT_RATIO_GROUPING", "True"), ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "9"),
        ("MODEL.NECK.NAME", "resample"), ("MODEL.CLIP.NAME", "mini_weak"), ("MODEL.LDP.LAYERS", "1"),
    ],
)  # fmt: skip
def test_what_makes_another_run_is_refused_by_name(key, value):
    with pytest.raises(ValueError, match=rf"cannot be gone on from.*{key} was .*, is .*MODEL.WEIGHTS"):
        check(config(key, value), config())


def test_other_images_and_fewer_steps_are_refused():
    with pytest.raises(ValueError, match="the images of DATASETS.TRAIN are others or in another order"):
        check(config(), config(), images="other")
    with pytest.raises(ValueError, match="the classes of second are others"):
        check(config(), config(), words="other")
    with pytest.raises(ValueError, match="is of step 9, but SOLVER.MAX_ITER is 8; set it to 9 or more"):
        check(config("SOLVER.MAX_ITER", "8"), config(), iteration=8)
    check(config("SOLVER.MAX_ITER", "8"), config("SOLVER.MAX_ITER", "8"), iteration=7)  # to evaluate is left


@pytest.mark.parametrize("iteration", [None, -5, 1.5, True, "2"])
def test_a_checkpoint_tells_its_last_iteration(iteration):
    with pytest.raises(ValueError, match=f"cannot be gone on from: its last iteration is {iteration!r}"):
        check(config(), config(), iteration=iteration)


@pytest.mark.parametrize(
    ("key", "value"),
    [("SOLVER.BASE_LR", "1e-5"), ("SOLVER.IMS_PER_BATCH", "2"), ("SOLVER.GRAD_ACCUM_STEPS", "2"),
     ("MODEL.MASK_FORMER.DICE_WEIGHT", "1.0"), ("SOLVER.STEPS", "(1,)"), ("SOLVER.NON_FINITE", "skip"),
     ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.5")],
)  # fmt: skip
def test_what_takes_effect_is_named_in_a_warning(caplog, key, value):
    check(config(key, value), config())
    (record,) = caplog.records
    assert record.levelname == "WARNING" and f"hold from step 4 on: {key} was" in record.getMessage()


def test_the_same_run_elsewhere_is_no_difference(caplog):
    settings = ["OUTPUT_DIR", "b", "DATALOADER.NUM_WORKERS", "3", "TEST.DETECTIONS_PER_IMAGE", "7"]
    check(config(*settings), config())
    assert not caplog.records
