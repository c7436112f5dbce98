"""Configurations and overrides of any content: a checked configuration, or a ValueError that names file or key."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from possam.config import SavedConfig
from possam.d2.config import CfgNode
from possam.engine import load_config
from possam.models import model_specs
from tests.fuzz.mutations import INTEGERS, LEAVES, OTHERS, TEXTS, cases, damaged, mutated, read

CONFIG = {
    "MODEL": {
        "META_ARCHITECTURE": "PosSAM",
        "DEVICE": "cpu",
        "SAM": {"NAME": "mini", "WEIGHTS": "shipped"},
        "MASK_FORMER": {"TRANSFORMER_DECODER_NAME": "mask2former", "DEC_LAYERS": 4},
        "LOSS": {"MASK": 2.0},
        "ENSEMBLE": {"NAME": "uniform"},
    },
    "INPUT": {"IMAGE_SIZE": 64, "AUGMENTATION": "flip"},
    "SOLVER": {"MAX_ITER": 10, "BASE_LR": 0.1, "STEPS": [1, 2], "AMP": {"ENABLED": False}},
    "TEST": {"TASKS": ["panoptic"], "DETECTIONS_PER_IMAGE": 5, "AUG": {"ENABLED": True, "SCALES": [1.0]}},
    "DATASETS": {"TRAIN": ["a"], "PANOPTIC": [{"name": "a"}]},
}
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
TREES = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}\n" for i in range(1, 9)
)
TEXTS_OF_YAML = (
    BOMB.encode(), TREES.encode(), (BOMB + "MODEL: {META_ARCHITECTURE: *a8}\n").encode(),
    (TREES + "MODEL: *a8\n").encode(), (TREES + "DATASETS: {PANOPTIC: [*a8]}\n").encode(),
    (BOMB + "DATASETS: {PANOPTIC: *a8}\n").encode(), (BOMB + "TEST: {TASKS: *a8}\n").encode(),
    b"MODEL: &m\n  SAM: *m\n", b"_BASE_: own.yaml\n", b"_BASE_: []\n", b"_BASE_: 3\n", b"_BASE_: missing.yaml\n",
    b"_BASE_: ~\n", b"_BASE_: http://localhost:9/a.yaml\n",
    b"? [a, b]\n: c\n", b"1: 2\n", b"~: 2\n", b"MODEL: ~\n", b"VERSION: 99\n", b"VERSION: []\n",
    b"SOLVER: {MAX_ITER: 0x" + b"f" * 5000 + b"}\n", b"SOLVER: {MAX_ITER: " + b"9" * 5000 + b"}\n", b"a: *nothing\n",
    b"--- 1\n--- 2\n", b"!!python/name:os.system\n", b"!!set {a, b}\n", b"!!binary aGVsbG8=\n", b"a: 2001-99-99\n",
    b"[" * 2000, b"{" * 2000, b"- " * 2000, b"TEST: {TASKS: [[panoptic]]}\n", b"MODEL: {DEVICE: ''}\n",
    b"<<: [1]\n", b"<<: {MODEL: 1}\n", b"a: 1_000:99:99\n", b"DATASETS: {TRAIN: !!omap [a: 1]}\n",
)  # fmt: skip
ANY_YAML = mutated(CONFIG).map(lambda tree: json.dumps(tree).encode()) | damaged(
    yaml.safe_dump(CONFIG).encode(), TEXTS_OF_YAML + tuple(other for other in OTHERS if len(other) < 20_000)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("configs")


# A value out of its range, or none, is named by its key.
SECTIONS = ("MODEL.", "INPUT.", "SOLVER.", "TEST.", "DATASETS.", "DATALOADER.", "SEED is", "is empty, but must be")


def check(path, overrides=()):
    cfg = read(lambda: load_config(path, overrides), path, *SECTIONS)
    if cfg is not None:
        assert isinstance(cfg, CfgNode) and cfg.SOLVER.MAX_ITER >= 1


def test_the_whole_configuration_is_read(place):
    path = place / "own.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    assert load_config(path).INPUT.IMAGE_SIZE == 64


@pytest.mark.parametrize("content", TEXTS_OF_YAML)
def test_a_configuration_of_every_odd_text(place, content):
    path = place / "own.yaml"
    path.write_bytes(content)
    check(path)


@cases(250)
@given(content=ANY_YAML)
def test_a_configuration_of_any_content(place, content):
    path = place / "own.yaml"
    path.write_bytes(content)
    check(path)


KEYS = st.sampled_from(
    ["SOLVER.MAX_ITER", "TEST.TASKS", "MODEL", "MODEL.SAM", "MODEL.DEVICE", "INPUT.IMAGE_SIZE", "DATASETS.PANOPTIC",
     "TEST.AUG.SCALES", "TEST.ENSEMBLES", "MODEL.LDP.STREAMS", "SEED", "_BASE_", "VERSION", ".",
     "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "TEST.PICTURES", "MODEL.DECODER.LAYERS", "MODEL.DECODER",
     "MODEL.", "MODEL..SAM", "MODEL.SAM.NAME.X", "SOLVER.STEPS.0", "__class__", "MODEL.SAM.__class__",
     "TEST.NUM_VISUALIZATIONS"]
)  # fmt: skip
SETTINGS = st.sampled_from(
    ["1", "-1", "[]", "[1, 'a']", "{'a': 1}", "{", "(", "(" * 300, "9" * 5000, "None", "True", "nan", "1e999", "'x'",
     "0x", "a.b", "__import__('os')", "lambda: 0", "[[[]]]", "('panoptic',)", "cuda:99", "meta", "1" + "+1" * 3000,
     "-" * 3000 + "1"]
) | LEAVES  # fmt: skip


@cases(250)
@given(
    overrides=st.lists(KEYS | SETTINGS | TEXTS, max_size=5)
    | st.tuples(KEYS, SETTINGS)
    | st.tuples(KEYS, INTEGERS)
)
def test_overrides_of_any_kind(overrides):
    read(lambda: load_config(None, [*overrides, "MODEL.DEVICE", "cpu"][-4:]), "override", *SECTIONS)


@cases(300)
@given(content=ANY_YAML)
def test_a_saved_configuration_of_any_content(place, content):
    path = place / "config.yaml"
    path.write_bytes(content)
    cfg = read(lambda: SavedConfig.read(path).over_defaults(), path)
    assert cfg is None or cfg.MODEL.META_ARCHITECTURE in [spec.name for spec in model_specs()]
