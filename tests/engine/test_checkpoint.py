"""Checkpoints fit the model and its frozen encoders exactly, or are refused; none of them can run code."""

import os
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from possam.d2.modeling import build_model
from possam.engine import Checkpointer
from possam.engine import checkpoint as checkpoint_module
from possam.models.state import describe_frozen, write_safetensors


def save(path, state):
    torch.save({"model": state}, path)
    return str(path)


def test_loads_what_fits(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    Checkpointer(model).load(save(tmp_path / "fits.pth", other.state_dict()))
    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight has shape \(2, 4\).*\(2, 3\)"),
        ({"weight": torch.zeros(2, 3)}, "bias is missing"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "extra": torch.zeros(1)}, "extra is not part"),
    ],
)
def test_refuses_what_does_not_fit_and_leaves_the_model_as_it_was(tmp_path, state, message):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    before = model.weight.detach().clone()
    checkpointer = Checkpointer(model)
    with pytest.raises(ValueError, match=message):
        checkpointer.load(save(tmp_path / "other.pth", state))
    assert torch.equal(model.weight, before)
    checkpointer.load(save(tmp_path / "fits.pth", other.state_dict()))  # an error does not spoil the next load
    assert torch.equal(model.weight, other.weight)


def test_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.pth"):
        Checkpointer(nn.Linear(3, 2)).load(str(tmp_path / "nothing.pth"))


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "text.pth"
    path.write_text("no weights at all")
    with pytest.raises(ValueError, match="text.pth is not a checkpoint.*Check MODEL.WEIGHTS"):
        Checkpointer(nn.Linear(3, 2)).load(str(path))


def test_half_a_checkpoint_is_named_with_its_size(tmp_path):
    path = tmp_path / "half.pth"
    save(path, {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match="half.pth .* its 700 bytes are damaged, cut short"):
        Checkpointer(nn.Linear(3, 2)).load(str(path))


def test_names_of_a_distributed_model_and_half_precision_load(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    state = {f"module.{key}": value.half() for key, value in other.state_dict().items()}
    Checkpointer(model).load(save(tmp_path / "ddp.pth", state))
    assert torch.equal(model.weight, other.weight.half().float()) and model.weight.dtype == torch.float32


# ------------------------------------------------------------------ the frozen encoders


@pytest.fixture
def checkpoint(mini_model, tmp_path):
    (tmp_path / "run").mkdir()
    Checkpointer(mini_model, str(tmp_path / "run")).save("model_1", iteration=1)
    return tmp_path / "run" / "model_1.pth"


def rebuilt(cfg, *overrides):
    cfg = cfg.clone()
    cfg.merge_from_list(list(overrides))
    return build_model(cfg)


def test_a_checkpoint_names_the_frozen_encoders_and_does_not_hold_them(mini_model, mini_config, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert content["frozen"] == describe_frozen(mini_model)
    assert not any(key.startswith(("sam.", "clip.")) for key in content["model"])
    model = rebuilt(mini_config)
    assert Checkpointer(model).load(str(checkpoint)) == {"iteration": 1}
    assert all(torch.equal(value, mini_model.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["MODEL.SAM.NAME", "vit_tiny", "MODEL.SAM.WEIGHTS", ""],
            r"over SAM mini \(fingerprint .* has SAM vit_tiny \(.*set MODEL.SAM.NAME mini and MODEL.SAM.WEIGHTS",
        ),
        (
            ["MODEL.SAM.WEIGHTS", ""],
            r"over SAM mini \(fingerprint .* has SAM mini \(fingerprint .*other weights.*set MODEL.SAM.WEIGHTS",
        ),
        (
            ["MODEL.CLIP.NAME", "mini_weak"],
            r"over CLIP mini_strong \(.* has CLIP mini_weak \(.*set MODEL.CLIP.NAME mini_strong and MODEL.CLIP.WEIGHTS",
        ),
        (
            ["MODEL.CLIP.INPUT_SCALE", "0.5"],
            "CLIP mini_strong .* at an input scale of 2.0, but the model's is 1.0: set MODEL.CLIP.INPUT_SCALE",
        ),
        (
            ["MODEL.SAM.WEIGHTS", "", "MODEL.CLIP.INPUT_SCALE", "0.5"],
            "over CLIP mini_strong.*; and over SAM mini",
        ),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_other_frozen_encoders_are_refused(mini_config, checkpoint, overrides, message, resume):
    model = rebuilt(mini_config, *overrides)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        Checkpointer(model, str(checkpoint.parent)).resume_or_load(str(checkpoint), resume=resume)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_checkpoint_that_does_not_say_its_encoders_is_refused_with_the_mend(mini_model, tmp_path):
    path = save(tmp_path / "old.pth", mini_model.state_dict())
    with pytest.raises(ValueError, match="does not say which frozen encoders.*describe_frozen"):
        Checkpointer(mini_model).load(path)
    torch.save({"model": mini_model.state_dict(), "frozen": describe_frozen(mini_model)}, path)
    assert Checkpointer(mini_model).load(path) == {}
    linear = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    torch.save({"model": linear, "frozen": {"clip": {"name": "x"}}}, path)
    with pytest.raises(ValueError, match="over CLIP x .*, but the model has no frozen CLIP"):
        Checkpointer(nn.Linear(3, 2)).load(path)


def test_safetensors_load_too(mini_model, mini_config, tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, mini_model)
    model = rebuilt(mini_config)
    assert Checkpointer(model).load(str(path)) == {}
    assert all(torch.equal(value, mini_model.state_dict()[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="has CLIP mini_weak"):
        Checkpointer(rebuilt(mini_config, "MODEL.CLIP.NAME", "mini_weak")).load(str(path))


def test_only_the_process_that_writes_computes_fingerprints(mini_model, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "describe_frozen", lambda _: pytest.fail("nothing is written here"))
    Checkpointer(mini_model, str(tmp_path), save_to_disk=False).save("model_1")
    Checkpointer(mini_model).save("model_1")
    assert list(tmp_path.glob("*.pth")) == []


def test_a_model_wrapped_for_distributed_training_is_described_and_checked(mini_model, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(mini_model)
        Checkpointer(wrapped, str(tmp_path)).save("model_1")
        assert torch.load(tmp_path / "model_1.pth", weights_only=True)["frozen"] == describe_frozen(mini_model)
        assert Checkpointer(wrapped).load(str(tmp_path / "model_1.pth")) == {}
    finally:
        torch.distributed.destroy_process_group()


# ------------------------------------------------------------------ no code


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def plant(path, place):
    content = {"model": {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, "trainer": Bomb(place)}
    if path.suffix in (".pth", ".pt", ".bin"):
        torch.save(content, path, _use_new_zipfile_serialization=path.stem != "legacy")
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("permissive", [False, True])
@pytest.mark.parametrize(
    "name", ["zip.pth", "legacy.pth", "zip.bin", "bare.pkl", "bare.pyth", "bare.safetensors", "bare", "bare.ckpt"]
)
def test_code_in_a_checkpoint_does_not_run(tmp_path, monkeypatch, name, permissive):
    """Detectron2 unpickles .pkl files, and torch everything where the environment says so."""
    if permissive:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, place = tmp_path / name, tmp_path / "bombed"
    plant(path, place)
    with pytest.raises(ValueError, match="is not"):
        Checkpointer(nn.Linear(3, 2)).load(str(path))
    assert not place.exists()
    pickle.loads(pickle.dumps(Bomb(place)))
    assert place.exists()  # the bomb is live: it was the reader that did not set it off


def test_wishes_in_a_name_are_refused(tmp_path):
    """Detectron2 would match parameters by similar names, which is how wrong weights load quietly."""
    path = save(tmp_path / "a.pth", nn.Linear(3, 2).state_dict())
    with pytest.raises(ValueError, match="not the name of a checkpoint"):
        Checkpointer(nn.Linear(3, 2)).load(f"{path}?matching_heuristics=True")
