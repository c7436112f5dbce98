"""Numbers out of their range are refused by key, in a configuration and in a saved model."""

import pytest
import yaml

from possam.engine import load_config
from possam.models.ranges import _COUNTS, _FRACTIONS, _NOT_NEGATIVE, _POSITIVE
from possam.models.saved_config import SavedConfig

BAD = [
    *((key, -1) for key in (*_COUNTS, *_NOT_NEGATIVE, *_POSITIVE, *_FRACTIONS)),
    *((key, 0) for key in (*_COUNTS, *_POSITIVE)),
    *((key, 1.5) for key in _FRACTIONS),
    ("MODEL.LOSS.OVERSAMPLE", 0.5),
    ("MODEL.DECODER.CHANNELS", 66),
    ("MODEL.DECODER.HEADS", 7),
    ("MODEL.LDP.HEADS", 7),
    ("MODEL.DECODER.LAYERS", 4),
    ("INPUT.IMAGE_SIZE", 100),
]


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
    settings = {"MODEL": {"META_ARCHITECTURE": "PosSAM", "DECODER": {"LAYERS": -3}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    saved = SavedConfig.read(tmp_path / "config.yaml")
    refused(lambda: saved.over_defaults(architecture="PosSAM"), "MODEL.DECODER.LAYERS")


def test_the_multiples_of_parts_that_are_not_in_use_do_not_matter():
    load_config("configs/mini/possam.yaml", ["MODEL.EMBEDDING.NAME", "clip", "MODEL.LDP.HEADS", "7"])
    load_config("configs/mini/possam.yaml", ["MODEL.DECODER.NAME", "two_way", "MODEL.DECODER.LAYERS", "4"])
