"""Checkpoints and saved models of any content: tensors, or a ValueError naming the file; code in them never runs."""

import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from possam.config import table
from possam.models import pretrained, spec
from possam.models.parts import SAM_KEYS
from possam.models.pretrained import Pretrained
from possam.models.state import load_checkpoint, read_checkpoint
from possam.vocabulary import Vocabulary
from tests.fuzz.mutations import OTHERS, TEXTS, VALUES, cases, damaged, mutated, read
from tests.fuzz.test_configs import TEXTS_OF_YAML
from tests.fuzz.test_vocabularies import TABLE

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2), "count": torch.tensor(3)}
WHOLE = {"model": TENSORS, "frozen": None, "iteration": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}


class Tiny(Pretrained):
    """A system of a few numbers that comes from a folder as the real ones do."""

    def __init__(self, cfg):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2))
        self.register_buffer("count", torch.tensor(0))
        self.train_vocabulary = Vocabulary.from_file(cfg.MODEL.TRAIN_VOCABULARY)


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The tiny system is known as the real ones are, until the tests of this file end."""
    spec._SPECS["Tiny"] = spec.ModelSpec(model=Tiny, encoders={}, check_config=lambda cfg: None)
    table.register_keys("Tiny", SAM_KEYS)
    yield
    del spec._SPECS["Tiny"], table._SYSTEMS["Tiny"]


def pth(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def safetensors(header, body=bytes(64)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


HEADER = {
    "__metadata__": {"frozen": "{}", "format": "pt"},
    "weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "bias": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]},
    "count": {"dtype": "I64", "shape": [], "data_offsets": [32, 40]},
}
ODD_HEADERS = tuple(
    safetensors(header, body)
    for header, body in (
        ({"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}, bytes(size))
        for dtype, size in (("F8_E4M3", 1), ("F8_E8M0", 1), ("F4", 1), ("U64", 8), ("C64", 8), ("BOOL", 1), ("X", 4))
    )
) + tuple(
    safetensors(header)
    for header in (
        {"__metadata__": {"frozen": "[" * 100_000}},
        {"__metadata__": {"frozen": "1" * 5000}},
        {"__metadata__": {"frozen": "NaN"}},
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": {"data_offsets": ["x", "y"]}, "b": {"data_offsets": [1, 2]}},
        {"a": {"data_offsets": [0, [1]]}},
        {"a": {"data_offsets": [0, 10**30]}},
        b"[" * 100_000,
        b"\xff" * 20,
        b'{"a": {"data_offsets": [0, ' + b"9" * 5000 + b"]}}",
    )
) + (struct.pack("<Q", 2**63), struct.pack("<Q", 2**63 - 1) + b"{}", struct.pack("<Q", 90_000_000) + b"{")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


def check(path):
    content = read(lambda: read_checkpoint(path), path)
    if content is not None:
        assert all(isinstance(value, torch.Tensor) for value in content["model"].values())
        model = nn.Module()
        for name, value in TENSORS.items():
            model.register_buffer(name, value.clone())
        read(lambda: load_checkpoint(model, content, str(path)), path)
        assert all(value.shape == TENSORS[name].shape for name, value in model.state_dict().items())


@cases(400)
@given(content=st.sampled_from([pth(WHOLE), pth(WHOLE, _use_new_zipfile_serialization=False)]).flatmap(damaged))
def test_a_checkpoint_of_any_bytes(place, content):
    path = place / "model.pth"
    path.write_bytes(content)
    check(path)


PLAIN = VALUES.map(lambda value: {"model": value}) | st.dictionaries(TEXTS | st.integers(0, 2), VALUES, max_size=3)
ODD_TENSORS = st.sampled_from(
    [torch.zeros(1, 1).expand(10**6, 10**6), torch.zeros(2, 3, dtype=torch.complex64), torch.eye(2, 3).to_sparse(),
     torch.full((2, 3), float("nan")), torch.zeros(0), torch.zeros(2, 3, dtype=torch.bool), nn.Parameter(torch.ones(2)),
     torch.zeros(2, 3, device="meta"), torch.zeros(2, 3, dtype=torch.float8_e4m3fn),
     torch.quantize_per_tensor(torch.zeros(2, 3), 1.0, 0, torch.quint8), torch.zeros(2, 3, dtype=torch.int8),
     torch.zeros(3, 2).T]
)  # fmt: skip


@st.composite
def checkpoints(draw):
    if draw(st.integers(0, 4)) == 0:
        return draw(PLAIN)
    content = {**WHOLE, "model": dict(TENSORS)}
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(["weight", "bias", "count", "other", 3, None, "module.weight", ("a", 1), b"x"]))
        where = content["model"] if draw(st.booleans()) else content
        where[key] = draw(ODD_TENSORS | VALUES)
    if draw(st.booleans()):
        content["frozen"] = draw(VALUES | st.just({1: {}, "sam": {}}) | st.just({"sam": {"name": "a"}}))
    return content


@cases(300)
@given(content=checkpoints())
def test_a_checkpoint_of_any_content(place, content):
    path = place / "model.pth"
    torch.save(content, path)
    check(path)


@cases(300)
@given(
    content=damaged(save(TENSORS, metadata={"frozen": "{}"}), OTHERS + ODD_HEADERS)
    | mutated(HEADER).map(lambda header: safetensors(header, bytes(40)))
)
def test_safetensors_of_any_content(place, content):
    path = place / "model.safetensors"
    path.write_bytes(content)
    check(path)


@pytest.mark.parametrize("content", ODD_HEADERS)
def test_every_odd_header_of_safetensors(place, content):
    path = place / "odd.safetensors"
    path.write_bytes(content)
    check(path)


class Planted:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def malicious(planted):
    """Pickles that make a folder when they are loaded, in every kind of file."""
    calls = [
        Planted(os.mkdir, str(planted)),
        Planted(os.system, f"mkdir {planted}"),
        Planted(eval, f"__import__('os').mkdir({str(planted)!r})"),
        Planted(exec, f"import os; os.mkdir({str(planted)!r})"),
        Planted(getattr, Planted(__import__, "os"), "mkdir"),
        Planted(torch.hub.load_state_dict_from_url, f"file://{planted}"),
        Planted(torch.load, str(planted)),
    ]
    for call in calls:
        for content in (call, {"model": call}, {"model": {"weight": call}}, {**WHOLE, "more": [{"deep": (call,)}]}):
            yield pth(content)
            yield pth(content, _use_new_zipfile_serialization=False)
            yield pickle.dumps(content)
            yield pickle.dumps(content, protocol=0)


def test_a_planted_pickle_never_runs(place):
    planted, count = place / "planted", 0
    for content in malicious(planted):
        for name in ("evil.pth", "evil.safetensors", "evil.bin"):
            (place / name).write_bytes(content)
            assert read(lambda name=name: read_checkpoint(place / name), place / name) is None
            assert not planted.exists()
            count += 1
    assert count == 7 * 4 * 4 * 3
    pickle.loads(pickle.dumps(Planted(os.mkdir, str(planted))))
    assert planted.exists(), "the plant would not have worked"


def test_a_zip_that_unpacks_to_far_more_is_refused(place):
    path = place / "bomb.pth"
    whole = zipfile.ZipFile(io.BytesIO(pth(WHOLE)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            bomb.writestr(name, bytes(200 << 20) if name.endswith("data.pkl") else whole.read(name))
    assert read(lambda: read_checkpoint(path), path) is None


SETTINGS = {"MODEL": {"META_ARCHITECTURE": "Tiny", "DEVICE": "cpu", "SAM": {"WEIGHTS": "shipped"}}}
FOLDER = {
    "config.yaml": yaml.safe_dump(SETTINGS),
    "model.safetensors": save(TENSORS, metadata={"frozen": "{}"}),
    "vocabulary.json": json.dumps(TABLE),
}
BROKEN = {
    "config.yaml": mutated(SETTINGS).map(lambda tree: json.dumps(tree).encode())
    | damaged(FOLDER["config.yaml"].encode(), TEXTS_OF_YAML),
    "model.safetensors": damaged(FOLDER["model.safetensors"]),
    "vocabulary.json": damaged(FOLDER["vocabulary.json"].encode()),
}


@cases(300)
@given(broken=st.sampled_from(sorted(BROKEN)).flatmap(lambda name: st.tuples(st.just(name), BROKEN[name])))
def test_a_saved_model_of_any_content(place, broken):
    folder = place / "saved"
    folder.mkdir(exist_ok=True)
    for name, content in {**FOLDER, broken[0]: broken[1]}.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    model = read(lambda: Tiny.from_pretrained(folder, text_cache=""), folder)
    assert model is None or not model.training


def test_the_saved_model_is_read_whole(place):
    folder = place / "whole"
    folder.mkdir()
    for name, content in FOLDER.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert torch.equal(Tiny.from_pretrained(folder, text_cache="").weight, TENSORS["weight"])
    assert sorted(FOLDER) == sorted(pretrained._NEEDED)
