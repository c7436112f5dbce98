"""State dicts: what is read, how differences are told, and what a digest goes by."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from possam.encoders import FrozenCLIP, FrozenSAM
from possam.encoders.clip import mini
from possam.encoders.state_dicts import Unfilled, differences, digest_tensors, not_finite, read_state_dict, take_over

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2.0), "c": torch.zeros(2, dtype=torch.bfloat16)}


def mapped_parts(path):
    """[(first address, end, bytes in memory)] of this process's mappings of a file."""
    smaps = Path("/proc/self/smaps")
    if not smaps.exists():
        pytest.skip("needs Linux's list of mappings")
    parts = []
    for entry in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps.read_text(), flags=re.MULTILINE)[1:]:
        head, *lines = entry.splitlines()
        if head.endswith(str(path)):
            start, end = (int(address, 16) for address in head.split()[0].split("-"))
            present = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))
            parts.append((start, end, present))
    return parts


def test_a_digest_goes_by_names_shapes_types_and_values():
    digest = digest_tensors(STATE, "kind")
    assert len(digest) == 64
    assert digest == digest_tensors(dict(reversed(STATE.items())), "kind")
    strided = {**STATE, "a.weight": STATE["a.weight"].T.contiguous().T}
    assert digest == digest_tensors(strided, "kind")
    others = [
        {**STATE, "b": torch.tensor(2.5)},
        {**STATE, "b": torch.tensor(2)},
        {**STATE, "b": torch.tensor([2.0])},
        {**STATE, "a.weight": STATE["a.weight"].reshape(3, 2)},
        {("x" if key == "b" else key): value for key, value in STATE.items()},
    ]
    assert len({digest, digest_tensors(STATE, "other"), *(digest_tensors(other, "kind") for other in others)}) == 7


def test_differences_name_a_few_of_each():
    assert differences(STATE, STATE) == ""
    many = {f"layer{i}": torch.zeros(1) for i in range(6)}
    found = {**many, "a.weight": torch.zeros(3, 2), "b": STATE["b"]}
    assert differences(STATE, found) == (
        "1 missing: c; 6 unexpected: layer0, layer1, layer2, layer3, …; 1 of another shape: a.weight (3, 2) instead of "
        "(2, 3)"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_values_that_are_not_finite_are_counted(dtype):
    good = {"a": torch.ones(2, 3).to(dtype), "number": torch.tensor(3), "empty": torch.zeros(0)}
    assert not_finite(good) == ""
    for value in (float("nan"), float("inf"), -float("inf")):
        bad = torch.tensor([1.0, value, value]).to(dtype)
        assert not_finite({**good, "b": bad}) == "b (2 of 3 values)"
    assert not_finite({str(i): bad for i in range(6)}).endswith("3 (2 of 3 values) and 2 more")


@pytest.mark.parametrize("build", [FrozenCLIP.build, FrozenSAM.build])
def test_weight_files_of_frozen_encoders_must_be_finite(build, tmp_path):
    name = "mini_weak" if build == FrozenCLIP.build else "vit_tiny"
    encoder = build(name=name, weights=None)
    weights = encoder.model if isinstance(encoder, FrozenCLIP) else encoder.encoder
    state = {key: value.clone() for key, value in weights.state_dict().items()}
    key = next(key for key, value in state.items() if value.is_floating_point() and value.dim() > 1)
    state[key].view(-1)[0] = float("nan")
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=rf"bad.safetensors holds .* NaN or infinite: {re.escape(key)} \(1 of "):
        build(name=name, weights=tmp_path / "bad.safetensors")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "iteration": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapped_and_distributed_state_dicts_are_unwrapped(tmp_path, wrap, prefix):
    torch.save(wrap({prefix + key: value for key, value in STATE.items()}), tmp_path / "state.pt")
    state = read_state_dict(tmp_path / "state.pt", kind="SAM")
    assert all(torch.equal(state[key], value) for key, value in STATE.items()) and len(state) == len(STATE)


def test_code_in_a_file_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"a": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(ValueError, match="cannot read SAM weights from .*trap.pt"):
        read_state_dict(tmp_path / "trap.pt", kind="SAM")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["state.safetensors", "state.pth"])
def test_values_of_a_file_are_mapped_and_taken_over_without_a_copy(tmp_path, name):
    layer = nn.Linear(64, 64).requires_grad_(False)
    saved = {key: value.clone() for key, value in layer.state_dict().items()}
    (save_file if name.endswith("safetensors") else torch.save)(saved, tmp_path / name)
    state = read_state_dict(tmp_path / name, kind="SAM")
    assert take_over(layer, state)
    assert layer.weight.data_ptr() == state["weight"].data_ptr()
    assert isinstance(layer.weight, nn.Parameter) and not layer.weight.requires_grad
    assert any(start <= layer.weight.data_ptr() < end for start, end, _ in mapped_parts(tmp_path / name))
    assert all(torch.equal(layer.state_dict()[key], value) for key, value in saved.items())
    layer.weight.zero_()
    again = read_state_dict(tmp_path / name, kind="SAM")
    assert torch.equal(again["weight"], saved["weight"]), "what is written to a mapped tensor stays in this process"


def test_a_file_from_before_archives_is_read_as_ever(tmp_path):
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    state = read_state_dict(tmp_path / "old.pth", kind="SAM")
    assert all(torch.equal(state[key], value) for key, value in STATE.items())


def test_taking_over_keeps_the_types_of_the_model_and_leaves_the_meta_device_alone():
    layer, half = nn.BatchNorm1d(3), nn.BatchNorm1d(3).half()
    half.running_mean += 2
    assert not take_over(layer, half.state_dict())
    assert {str(value.dtype) for value in layer.state_dict().values()} == {"torch.float32", "torch.int64"}
    assert layer.running_mean.tolist() == [2, 2, 2] and layer.weight.requires_grad
    empty = nn.BatchNorm1d(3, device="meta")
    assert not take_over(empty, half.state_dict())
    assert all(value.is_meta for value in empty.state_dict().values())
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = nn.BatchNorm1d(3, device="cuda")
        take_over(there, half.state_dict())
        assert {value.device.type for value in there.state_dict().values()} == {"cuda"}


def test_unfilled_modules_draw_nothing_have_their_buffers_and_can_still_be_frozen():
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.attention, self.norm = nn.Linear(8, 8), nn.MultiheadAttention(8, 2), nn.BatchNorm1d(8)
            nn.init.normal_(self.linear.weight)
            self.register_buffer("mask", torch.empty(3, 3).fill_(-torch.inf).triu_(1), persistent=False)

    before = torch.random.get_rng_state()
    with Unfilled():
        part = Part().requires_grad_(False)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert part.mask[1].tolist() == [0, 0, -torch.inf] and part.norm.running_var.tolist() == [1] * 8
    assert not any(parameter.requires_grad for parameter in part.parameters())
    take_over(part, {key: torch.full_like(value, 2) for key, value in part.state_dict().items()})
    assert all((parameter == 2).all() for parameter in part.parameters())


def test_the_text_tower_is_in_memory_only_once_it_is_asked(tmp_path, monkeypatch):
    monkeypatch.setitem(mini.MODELS, "mini_text", replace(mini.MODELS["mini_strong"], text_width=384, text_layers=6))
    model, path = FrozenCLIP.build(name="mini_text", weights=None), tmp_path / "clip.safetensors"
    save_file(model.model.state_dict(), path)
    clip = FrozenCLIP.build(name="mini_text", weights=path)

    def present():
        return sum(part for *_, part in mapped_parts(path)) / path.stat().st_size

    assert present() < 0.25, "digests have read all of it, and hardly anything is left"
    assert torch.equal(clip.final(torch.zeros(1, 3, 64, 64)), model.final(torch.zeros(1, 3, 64, 64)))
    assert (clip.fingerprint, clip.text_fingerprint) == (model.fingerprint, model.text_fingerprint)
    assert present() < 0.25, "digests are remembered"
    assert torch.equal(clip.encode_text(["a dog"]), model.encode_text(["a dog"]))
    assert present() > 0.75
