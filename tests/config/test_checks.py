"""Numbers out of their range are refused by key, in a configuration and in a saved model."""

import pytest
import yaml

from possam.config import SavedConfig, keys_of
from possam.config.key import count, fraction, not_negative, positive, seed, value_of
from possam.engine import load_config

KEYS = {**keys_of("FcClip"), **keys_of("PosSAM")}
BOUNDS = ((count, [-1, 0]), (positive, [-1, 0]), (not_negative, [-1]), (fraction, [-1, 1.5]), (seed, [2**40]))
BAD = [
    *((key, value) for key in KEYS for check, values in BOUNDS if check in KEYS[key].checks for value in values),
    ("MODEL.MASK_FORMER.OVERSAMPLE_RATIO", 0.5),
    ("MODEL.MASK_FORMER.HIDDEN_DIM", 66),
    ("MODEL.MASK_FORMER.NHEADS", 7),
    ("MODEL.LDP.HEADS", 7),
    ("MODEL.MASK_FORMER.DEC_LAYERS", 0),
    ("MODEL.MASK_FORMER.DEC_LAYERS", 1),
    ("MODEL.MASK_FORMER.DEC_LAYERS", 5),
    ("INPUT.IMAGE_SIZE", 100),
    ("SOLVER.GAMMA", -1.0),
    ("SOLVER.GAMMA", 0.0),
    ("SOLVER.GAMMA", 10.0),
    ("SOLVER.WARMUP_FACTOR", 2.0),
    ("SOLVER.BASE_LR_END", 1.0),  # above BASE_LR
]
MULTI_STEP = ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.MAX_ITER", "9", "SOLVER.STEPS"]
FIXED_GAMMA = ["SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR", "SOLVER.NUM_DECAYS", "3", "SOLVER.MAX_ITER"]


def refused(read, key):
    with pytest.raises(ValueError, match=rf"{key} is \S+, but must be "):
        read()


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_number_out_of_range_is_refused_by_its_key(key, value):
    default = load_config("configs/mini/possam.yaml")
    for part in key.split("."):
        default = default[part]
    refused(lambda: load_config("configs/mini/possam.yaml", [key, str(type(default)(value))]), key)


def test_infinity_is_out_of_every_range(tmp_path):
    (tmp_path / "config.yaml").write_text("SOLVER: {BASE_LR: .inf}")
    refused(lambda: load_config(tmp_path / "config.yaml"), "SOLVER.BASE_LR")


def test_a_saved_model_is_checked_too(tmp_path):
    settings = {"MODEL": {"META_ARCHITECTURE": "PosSAM", "MASK_FORMER": {"DEC_LAYERS": -3}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    saved = SavedConfig.read(tmp_path / "config.yaml")
    refused(lambda: saved.over_defaults(), "MODEL.MASK_FORMER.DEC_LAYERS")


def test_the_multiples_of_parts_that_are_not_in_use_do_not_matter():
    load_config("configs/mini/possam.yaml", ["MODEL.EMBEDDING.NAME", "clip", "MODEL.LDP.HEADS", "7"])
    two_way = ["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "two_way", "MODEL.MASK_FORMER.DEC_LAYERS", "5"]
    load_config("configs/mini/possam.yaml", two_way)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([*MULTI_STEP, "(3, 1)"], r"SOLVER.STEPS is \[3, 1\], but each step must be above the one before"),
        ([*MULTI_STEP, "(3, 3)"], r"SOLVER.STEPS has 3 twice"),
        ([*MULTI_STEP, "(3, 9)"], r"SOLVER.STEPS is \[3, 9\] and SOLVER.MAX_ITER 9"),
        ([*MULTI_STEP, "(0, 1)"], r"SOLVER.STEPS\[0\] is 0, but must be a whole number above 0"),
        ([*MULTI_STEP, "(1, 2.5)"], r"SOLVER.STEPS\[1\] is 2.5, but"),
        ([*MULTI_STEP, "(True,)"], r"SOLVER.STEPS\[0\] is True, but"),
        ([*MULTI_STEP, "('1e2',)"], r"SOLVER.STEPS\[0\] is '1e2', but .* write 100\."),
        ([*FIXED_GAMMA, "3"], r"SOLVER.NUM_DECAYS is 3, but must be so few that SOLVER.MAX_ITER, 3"),
        (["SOLVER.RESCALE_INTERVAL", "True", "SOLVER.WARMUP_ITERS", "1000"], r"SOLVER.WARMUP_ITERS is 1000.*MAX_ITER"),
        (["DATASETS.TEST", "(1,)"], r"DATASETS.TEST\[0\] is 1, but must be a name"),
        (["DATASETS.TRAIN", "('',)"], r"DATASETS.TRAIN\[0\] is '', but must be a name"),
        (["DATASETS.TEST", "('a', 'a')"], r"DATASETS.TEST has 'a' twice"),
        (["TEST.TASKS", "['panoptic', ['semantic']]"], r"TEST.TASKS\[1\] is \['semantic'\], but must be a name"),
        (["TEST.ENSEMBLES", "['ldp', 'ldp']"], r"TEST.ENSEMBLES has 'ldp' twice"),
        (["MODEL.LDP.STREAMS", "['sam', 1]"], r"MODEL.LDP.STREAMS\[1\] is 1, but must be a name"),
        (["TEST.AUG.SCALES", "[1.0, -1]"], r"TEST.AUG.SCALES\[1\] is -1, but must be a number above 0"),
        (["TEST.AUG.SCALES", "[1e999]"], r"TEST.AUG.SCALES\[0\] is inf, but"),
    ],
)
def test_lists_and_schedules_are_refused_by_their_key(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_config("configs/mini/possam.yaml", overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["INPUT.RESIZE_TEST", "shortest"], "INPUT.RESIZE_TEST is 'shortest', .*Did you mean 'shortest_edge'"),
        (["INPUT.RESIZE_TEST", "shortest_edge"], "do not fit in a square .*set INPUT.PAD_TO_SQUARE False"),
        (
            ["INPUT.RESIZE_TEST", "shortest_edge", "INPUT.MAX_SIZE_TEST", "799"],
            "INPUT.MAX_SIZE_TEST is 799, but must be at least INPUT.MIN_SIZE_TEST, 800",
        ),
        (
            ["INPUT.RESIZE_TEST", "shortest_edge", "INPUT.PAD_TO_SQUARE", "False", "INPUT.CACHE_FEATURES", "False",
             "TEST.BATCH_SIZE", "1", "TEST.AUG.ENABLED", "True", "TEST.AUG.SCALES", "[0.0006]"],
            "INPUT.MIN_SIZE_TEST 800 at least a pixel",
        ),
    ],
)  # fmt: skip
def test_the_test_time_resize_is_refused_by_its_key(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_config("configs/mini/possam.yaml", overrides)


@pytest.mark.parametrize("steps", ["()", "(1,)", "(3, 8)", "(3, 100)"])
def test_schedules_that_can_be_built_are_accepted(steps):
    load_config("configs/mini/possam.yaml", [*MULTI_STEP, steps])
    load_config("configs/mini/possam.yaml", [*FIXED_GAMMA, "4"])


def test_every_number_list_and_path_has_a_range():
    default = load_config("configs/mini/possam.yaml")
    without = {"DATASETS.PANOPTIC", "DATASETS.SEMANTIC", "DATASETS.UNNAMED", "DATASETS.IMAGE_LABELS"}
    for key in keys_of("PosSAM").values():
        value = value_of(default, key.name)
        if isinstance(value, int | float | list | tuple) and not isinstance(value, bool):
            ranged = bool(key.checks) or key.name.startswith("MODEL.ENSEMBLE.")  # whose constructor checks them
            assert ranged == (key.name not in without), key.name


def test_every_key_says_what_it_is():
    for key in KEYS.values():
        assert key.help and all(check.wanted for check in key.checks), key.name
