"""Checkpoint files: read as data, whole or not at all, and written the same every time."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from possam.encoders import FrozenEncoder
from possam.engine import load_config
from possam.engine.optimizer import build_optimizer
from possam.models.state import (
    check_frozen,
    describe_frozen,
    exclude_frozen,
    load_checkpoint,
    read_checkpoint,
    write_safetensors,
)


class Tied(nn.Module):
    """Two names for one parameter, a strided one, and an integer buffer."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3, bias=False)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight
        self.strided = nn.Parameter(torch.arange(6.0).reshape(2, 3).T)
        self.register_buffer("steps", torch.tensor(70_000))


def test_safetensors_hold_tied_strided_and_integer_values(tmp_path):
    model = Tied()
    write_safetensors(tmp_path / "a.safetensors", model, dtype=torch.bfloat16)
    write_safetensors(tmp_path / "b.safetensors", model, dtype=torch.bfloat16)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint["frozen"] == {} and checkpoint["model"]["steps"] == 70_000
    other = Tied()
    load_checkpoint(other, checkpoint, "it")
    assert torch.equal(other.one.weight, model.one.weight.bfloat16().float())
    assert torch.equal(other.strided, model.strided)


def test_every_way_of_cutting_or_flipping_a_file_is_a_named_error_or_loads_the_same_names(tmp_path):
    """Whatever a damaged file holds, no other exception than ValueError comes out of it."""
    save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, tmp_path / "whole.safetensors")
    torch.save({"model": {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, "iteration": 3}, tmp_path / "whole.pth")
    refused = 0
    for name in ("whole.safetensors", "whole.pth"):
        content = (tmp_path / name).read_bytes()
        step = max(1, len(content) // 60)
        cut = [content[:length] for length in range(0, len(content), step)]
        flipped = [content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :] for i in range(0, len(content), step)]
        for damaged in cut + flipped:
            path = tmp_path / f"damaged-{name}"
            path.write_bytes(damaged)
            try:
                read_checkpoint(path)
            except ValueError as error:
                assert f"damaged-{name}" in str(error)
                refused += 1
    assert refused > 120  # all cut ones, at least


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes, and its header does not end"),
        (struct.pack("<Q", 2**40) + b"{}", "10 bytes, and its header does not end"),
        (struct.pack("<Q", 4) + b"{{{{", "header is not readable"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS.*git lfs pull"),
    ],
)
def test_what_is_there_instead_of_safetensors_is_said(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(path)


def test_metadata_that_is_not_ours_is_an_error_and_foreign_tensors_are_not(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={"frozen": "{"})
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_checkpoint(path)
    save_file({"weight": torch.ones(2)}, path, metadata={"format": "pt"})
    assert set(read_checkpoint(path)) == {"model"}


@pytest.mark.parametrize("content", [[1, 2], {"model": torch.ones(2)}, {"state_dict": torch.ones(2)}])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth is not a checkpoint: it holds no tensors by name"):
        read_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize("wrapper", ["model", "state_dict", ""])
def test_tensors_may_be_wrapped(tmp_path, wrapper):
    tensors = {"weight": torch.ones(2)}
    torch.save({wrapper: tensors, "meta": {"epoch": 3}} if wrapper else tensors, tmp_path / "one.pth")
    assert torch.equal(read_checkpoint(tmp_path / "one.pth")["model"]["weight"], torch.ones(2))


def test_the_frozen_encoders_are_described_by_name_and_fingerprint(mini_model):
    sam, clip = mini_model.sam, mini_model.clip
    assert describe_frozen(mini_model) == {
        "sam": {"name": "mini", "fingerprint": sam.fingerprint},
        "clip": {"name": "mini_strong", "fingerprint": clip.fingerprint, "input_scale": 2.0},
    }
    assert json.loads(json.dumps(describe_frozen(mini_model))) == describe_frozen(mini_model)
    assert describe_frozen(nn.Linear(2, 2)) == {}


@pytest.mark.parametrize("value", [torch.eye(2).to_sparse(), torch.zeros(2, device="meta")])
def test_tensors_without_plain_values_are_refused(tmp_path, value):
    torch.save({"weight": value}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="odd.pth is not a checkpoint: 'weight' is sparse, quantized or has no values"):
        read_checkpoint(tmp_path / "odd.pth")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool, torch.int64])
def test_another_kind_of_number_is_refused_and_the_model_stays(dtype):
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    checkpoint = {"model": {"weight": torch.ones(2, 2, dtype=dtype), "bias": torch.ones(2)}, "frozen": None}
    with pytest.raises(ValueError, match=rf"weight holds {dtype}, which is no torch.float32"):
        load_checkpoint(model, checkpoint, "it")
    assert torch.equal(model.weight, before)


def test_names_that_are_no_strings_are_refused(tmp_path):
    torch.save({"model": {3: torch.ones(2)}}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="odd.pth is not a checkpoint"):
        read_checkpoint(tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="does not say which frozen encoders"):
        check_frozen(nn.Linear(2, 2), {1: {}, "sam": {}}, "it")
    with pytest.raises(ValueError, match=r"SAM \\ud800 .*but the model has no frozen SAM") as caught:
        check_frozen(nn.Linear(2, 2), {"sam": {"name": "\ud800"}}, "it")
    str(caught.value).encode()


@pytest.mark.parametrize(
    "header", [b"[" * 100_000, b'{"a": {"data_offsets": [0, null]}}', b'{"a": {"data_offsets": [0, [1]]}}']
)
def test_an_odd_header_of_safetensors_is_named(tmp_path, header):
    (tmp_path / "odd.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="odd.safetensors is not a whole safetensors file: .* not readable"):
        read_checkpoint(tmp_path / "odd.safetensors")


def test_metadata_too_deep_to_read_is_named(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "odd.safetensors", metadata={"frozen": "[" * 100_000})
    with pytest.raises(ValueError, match="odd.safetensors is not a whole safetensors file"):
        read_checkpoint(tmp_path / "odd.safetensors")


class Encoder(FrozenEncoder):
    """Convolution and batch norm, whose statistics would change in training mode."""

    def __init__(self, name):
        super().__init__(name=name, pixel_mean=torch.zeros(3), pixel_std=torch.ones(3))
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.out_channels = {1: 4}
        self.freeze()

    @property
    def fingerprint(self):
        return f"digest of {self.name}"


class Odd(nn.Module):
    """Encoders under names that say nothing of them, one of them nested, one with two names; and modules that look like
    encoders by their names alone."""

    def __init__(self):
        super().__init__()
        self.head = Encoder("first")
        self.header = nn.Linear(2, 3)
        self.parts = nn.ModuleDict({"a": nn.ModuleList([nn.Linear(4, 5), Encoder("second")])})
        self.again = self.head
        self.sam = nn.Linear(6, 7)
        self.clip = nn.BatchNorm1d(8)
        exclude_frozen(self)


TRAINED = {"header", "parts.a.0", "sam", "clip"}


def modules_of(names):
    return {name.rpartition(".")[0] for name in names}


def test_frozen_encoders_are_left_out_by_their_type(tmp_path):
    model = Odd().train()
    assert modules_of(model.state_dict()) == TRAINED
    assert modules_of(name for name, value in model.named_parameters() if value.requires_grad) == TRAINED
    assert not any(module.training for one in (model.head, model.parts["a"][1]) for module in one.modules())
    assert model.clip.training and model.header.training
    groups = build_optimizer(load_config("configs/mini/possam.yaml"), model).param_groups
    in_optimizer = {id(parameter) for group in groups for parameter in group["params"]}
    assert modules_of(name for name, value in model.named_parameters() if id(value) in in_optimizer) == TRAINED
    frozen = {role: {"name": n, "fingerprint": f"digest of {n}"} for role, n in
              (("head", "first"), ("parts.a.1", "second"))}  # fmt: skip
    assert describe_frozen(model) == frozen
    write_safetensors(tmp_path / "odd.safetensors", model)
    checkpoint = read_checkpoint(tmp_path / "odd.safetensors")
    assert modules_of(checkpoint["model"]) == TRAINED and checkpoint["frozen"] == frozen
    other = Odd()
    load_checkpoint(other, checkpoint, "it")
    assert torch.equal(other.sam.weight, model.sam.weight) and not torch.equal(
        other.head.body[0].weight, model.head.body[0].weight
    )


def test_frozen_encoders_are_left_out_of_a_model_that_is_a_part_of_another():
    whole = nn.ModuleDict({"module": Odd(), "other": nn.Linear(2, 2)})
    state = whole.state_dict()
    assert modules_of(state) == {f"module.{name}" for name in TRAINED} | {"other"}
    assert whole.load_state_dict(state, strict=True).missing_keys == []
    assert whole["module"].load_state_dict(whole["module"].state_dict(), strict=True).missing_keys == []
    del state["module.header.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "module.header.bias"\.'):
        whole.load_state_dict(state, strict=True)


@pytest.mark.parametrize("role", ["head", "parts.a.1"])
def test_another_nested_encoder_is_refused(role):
    model = Odd()
    saved = describe_frozen(model)
    saved[role]["fingerprint"] = "another"
    with pytest.raises(ValueError, match=f"{role.upper()} .*another"):
        check_frozen(model, saved, "it")
