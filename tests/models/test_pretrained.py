"""Whole models go to a folder or the hub and come back equal; what is wrong with a folder is said in one sentence."""

import logging
import os
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from possam.d2.config import CfgNode
from possam.d2.modeling import build_model
from possam.engine import load_config, prepare_datasets
from possam.models import PosSAM
from possam.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
B = Vocabulary.load("mini_b")
INPUTS = [
    {
        "image": torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(5)).to(torch.uint8),
        "vocabulary": B,
        "height": 70,
        "width": 90,
    }
]


def build(*overrides):
    cfg = load_config(ROOT / "configs/mini/possam.yaml", ["MODEL.TEXT_CACHE", "", *overrides])
    prepare_datasets(cfg)
    torch.manual_seed(0)
    return build_model(cfg).eval()


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return model.save_pretrained(tmp_path_factory.mktemp("saved") / "mini-possam")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the saved model, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "mini-possam"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def assert_same_outputs(one, other):
    for ensemble in one.ensembles:
        first, second = (m.segment(m.predict(INPUTS)[0], ensemble) for m in (one, other))
        assert torch.equal(first["panoptic_seg"][0], second["panoptic_seg"][0])
        assert first["panoptic_seg"][1] == second["panoptic_seg"][1]
        assert torch.equal(first["semantic_seg"], second["semantic_seg"])
        assert torch.equal(first["instances"].scores, second["instances"].scores)
        assert torch.equal(first["mask_quality"]["iou"], second["mask_quality"]["iou"])


# ------------------------------------------------------------------ there and back


def test_what_comes_back_is_equal_to_the_bit(model, saved):
    loaded = PosSAM.from_pretrained(saved)
    assert not loaded.training
    assert loaded.train_vocabulary == model.train_vocabulary
    assert_same_outputs(model, loaded)


def test_the_file_holds_the_trained_parameters_alone(model, saved):
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert trained <= set(file.keys())
        assert not any(key.startswith(("sam.", "clip.")) for key in file.keys())  # noqa: SIM118


def test_saving_what_was_loaded_writes_the_same_files(saved, tmp_path):
    again = PosSAM.from_pretrained(saved).save_pretrained(tmp_path / "mini-possam")
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in saved.iterdir())
    for path in saved.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


_FRESH = """
import socket, sys, torch
def forbidden(*_, **__): raise AssertionError("a local folder needs no network")
socket.socket.connect = forbidden
from possam.d2.data import DatasetCatalog
from possam.models import PosSAM
from possam.vocabulary import Vocabulary
assert not [name for name in DatasetCatalog.list() if name.startswith("mini")]
torch.set_num_threads(1)
model = PosSAM.from_pretrained(sys.argv[1])
inputs = torch.load(sys.argv[2], weights_only=True)
output = model([{**inputs, "vocabulary": Vocabulary.load("mini_b")}])[0]
segmentation, segments_info = output["panoptic_seg"]
torch.save({"panoptic": segmentation, "segments": segments_info, "semantic": output["semantic_seg"]}, sys.argv[3])
"""


@pytest.mark.parametrize("backend", ["builtin", "detectron2"])
def test_a_fresh_process_loads_it_without_configs_datasets_or_network(model, saved, tmp_path, backend):
    """With either backend, whichever saved it."""
    if backend == "detectron2" and find_spec("detectron2") is None:
        pytest.skip("Detectron2 is not installed")
    torch.save({key: value for key, value in INPUTS[0].items() if key != "vocabulary"}, tmp_path / "inputs.pth")
    environment = {**os.environ, "POSSAM_D2": backend, "PYTHONPATH": str(ROOT)}
    files = [str(saved), str(tmp_path / "inputs.pth"), str(tmp_path / "outputs.pth")]
    command = [sys.executable, "-c", _FRESH, *files]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    expected, found = model(INPUTS)[0], torch.load(files[2], weights_only=True)
    assert torch.equal(expected["panoptic_seg"][0], found["panoptic"])
    assert expected["panoptic_seg"][1] == found["segments"]
    assert torch.equal(expected["semantic_seg"], found["semantic"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loads_exactly_into_float32(model, tmp_path, dtype):
    folder = model.save_pretrained(tmp_path / "half", dtype=dtype)
    stored = load_file(folder / "model.safetensors")
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {dtype}
    loaded = PosSAM.from_pretrained(folder).state_dict()
    for key, value in model.state_dict().items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key], value.to(dtype).to(value.dtype)), key


def test_parameters_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path):
    model = build()
    folder = model.save_pretrained(tmp_path / "good")
    state = load_file(folder / "model.safetensors")
    with safe_open(folder / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    state["classifier.void"][3] = torch.nan
    save_file(state, folder / "model.safetensors", metadata)
    with pytest.raises(ValueError, match=r"model.safetensors holds .*NaN or infinite: classifier.void \(1 of"):
        PosSAM.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.void[3] = torch.inf
    with pytest.raises(ValueError, match=r"is not written: .*classifier.void \(1 of"):
        model.save_pretrained(tmp_path / "bad")


def test_a_value_that_half_precision_cannot_hold_is_refused(tmp_path):
    model = build()
    with torch.no_grad():
        model.classifier.void[3] = 1e6
    with pytest.raises(ValueError, match=r"classifier.void has values up to 1e\+06, which torch.float16 cannot hold"):
        model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    with pytest.raises(ValueError, match="dtype is torch.int8, but must be one of torch.float32"):
        model.save_pretrained(tmp_path / "half", dtype=torch.int8)


def test_no_folder_of_this_machine_is_told(tmp_path):
    """Paths name people and places, and mean nothing elsewhere."""
    secret = tmp_path / "secret"
    secret.mkdir()
    weights = secret / "sam_mini.safetensors"
    shutil.copy(ROOT / "possam/encoders/weights/mini_sam.safetensors", weights)
    keys = ("OUTPUT_DIR", "INPUT.FEATURE_CACHE_DIR", "MODEL.TEXT_CACHE", "MODEL.WEIGHTS")
    paths = [item for key in keys for item in (key, str(secret))]
    model = build(*paths, "MODEL.SAM.WEIGHTS", str(weights), "MODEL.DEVICE", "cpu:0")
    assert model.config.count(str(secret)) == 5
    own = {"name": "own", "image_root": str(secret)}
    cfg = CfgNode(CfgNode.load_cfg(model.config))
    cfg.DATASETS.PANOPTIC = [own]
    folder = model.save_pretrained(tmp_path / "model", cfg=cfg)
    assert not any(b"secret" in path.read_bytes() for path in folder.iterdir())
    with pytest.raises(FileNotFoundError, match=r"weights/sam_mini.safetensors does not exist.*--weights sam="):
        PosSAM.from_pretrained(folder)
    assert_same_outputs(model, PosSAM.from_pretrained(folder, weights={"sam": weights}))


def test_a_model_built_from_parts_needs_a_configuration_to_record(model, saved, tmp_path, monkeypatch):
    cfg = load_config(ROOT / "configs/mini/possam.yaml")
    monkeypatch.setattr(model, "config", "")
    with pytest.raises(ValueError, match="built from parts.*cfg="):
        model.save_pretrained(tmp_path / "model")
    folder = model.save_pretrained(tmp_path / "model", cfg=cfg)
    assert (folder / "config.yaml").read_text() == (saved / "config.yaml").read_text()


# ------------------------------------------------------------------ where it goes


def test_text_embeddings_are_kept_in_the_users_cache_and_not_in_the_model(saved, tmp_path):
    before = sorted(saved.iterdir())
    PosSAM.from_pretrained(saved)(INPUTS)
    assert list((tmp_path / "cache" / "possam" / "text").glob("*.safetensors"))
    assert sorted(saved.iterdir()) == before
    PosSAM.from_pretrained(saved, text_cache=tmp_path / "own")(INPUTS)
    assert list((tmp_path / "own").iterdir())
    PosSAM.from_pretrained(saved, text_cache="")(INPUTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "own"]


def test_a_cache_that_cannot_be_made_is_done_without(saved, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    PosSAM.from_pretrained(saved)(INPUTS)
    assert "not kept on disk" in caplog.text


def test_a_model_of_the_gpu_goes_to_the_cpu_where_there_is_none(folder, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("DEVICE: cpu", "DEVICE: cuda"))
    with caplog.at_level(logging.WARNING):
        assert PosSAM.from_pretrained(folder).device == torch.device("cpu")
    assert "it goes to the CPU" in caplog.text
    with pytest.raises(ValueError, match="no CUDA device; give 'cpu'"):
        PosSAM.from_pretrained(folder, device="cuda")


# ------------------------------------------------------------------ the hub


def test_a_local_folder_never_touches_the_network(saved, monkeypatch):
    def forbidden(*_args, **_options):
        raise AssertionError("a local folder needs no network")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", forbidden)
    monkeypatch.chdir(saved.parent.parent)
    PosSAM.from_pretrained(f"{saved.parent.name}/{saved.name}")  # it looks like a repository


def test_a_repository_is_downloaded_with_the_data_files_alone(model, saved, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda repo, **options: calls.append((repo, options)) or str(saved)
    )
    loaded = PosSAM.from_pretrained("someone/mini-possam", revision="v1", cache_dir=tmp_path, token="hf_x")
    files = ["config.yaml", "model.safetensors", "vocabulary.json", "README.md"]
    options = {"revision": "v1", "cache_dir": tmp_path, "token": "hf_x", "allow_patterns": files}
    assert calls == [("someone/mini-possam", options)]
    assert_same_outputs(model, loaded)


def test_a_repository_that_cannot_be_had_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = "no folder someone/nothing, and the hub did not give.*Without a network"
    with pytest.raises(FileNotFoundError, match=message):
        PosSAM.from_pretrained("someone/nothing", cache_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="someone/no--thing"):
        PosSAM.from_pretrained("someone/no--thing", cache_dir=tmp_path)


class FakeHub:
    """Remembers what is uploaded to it."""

    def __init__(self, place, error=None):
        self.place, self.error, self.calls = place, error, []

    def __call__(self, **options):
        self.calls.append(("login", options))
        return self

    def create_repo(self, repo_id, **options):
        self.calls.append(("create", repo_id, options))
        if self.error:
            raise self.error
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.calls.append(("upload", repo_id, commit_message))
        shutil.copytree(folder_path, self.place)


def test_push_to_hub_uploads_what_save_pretrained_writes(model, saved, tmp_path, monkeypatch):
    hub = FakeHub(tmp_path / "uploaded")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    address = model.push_to_hub("someone/mini-possam", private=True, token="hf_x", commit_message="First")
    assert address == "https://huggingface.co/someone/mini-possam"
    assert hub.calls == [
        ("login", {"token": "hf_x"}),
        ("create", "someone/mini-possam", {"private": True, "exist_ok": True}),
        ("upload", "someone/mini-possam", "First"),
    ]
    for name in ("config.yaml", "model.safetensors", "vocabulary.json"):
        assert (hub.place / name).read_bytes() == (saved / name).read_bytes()
    assert 'from_pretrained("someone/mini-possam")' in (hub.place / "README.md").read_text(encoding="utf-8")
    assert_same_outputs(model, PosSAM.from_pretrained(hub.place))


def test_a_hub_that_refuses_is_one_sentence_without_the_token(model, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub(tmp_path, OSError("401 Client Error.\nmore")))
    with pytest.raises(ValueError, match=r"did not take 'a/b' \(OSError: 401 Client Error\).*hf auth login") as raised:
        model.push_to_hub("a/b", token="hf_secret")
    assert "hf_secret" not in str(raised.value)


# ------------------------------------------------------------------ what is wrong with a folder


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "vocabulary.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {name}"):
        PosSAM.from_pretrained(folder)


def test_what_is_no_folder_is_refused(saved, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is a file; expected the folder"):
        PosSAM.from_pretrained(saved / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="no folder .*owner/name"):
        PosSAM.from_pretrained(tmp_path / "nothing")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder some/where/else"):
        PosSAM.from_pretrained("some/where/else")


def test_half_a_file_is_named_with_both_sizes(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"model.safetensors.*{len(content) // 2:,} bytes.*promises {len(content):,}"):
        PosSAM.from_pretrained(folder)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("META_ARCHITECTURE: PosSAM", "META_ARCHITECTURE: PosSAN", "is 'PosSAN'.*'PosSAM'.*update possam"),
        ("META_ARCHITECTURE: PosSAM", "OTHER: 1", "no configuration of this package"),
        ("QUERIES: 24", "QUERIES: 24\n    NUM_QUERIES: 3", r"update possam. Did you mean '\S+.NUM_OBJECT_QUERIES'"),
        ("QUERIES: 24", "QUERIES: many", "setting of the wrong type.*QUERIES"),
        ("QUERIES: 24", "QUERIES: 25", r"safetensors does not fit the model: mask_decoder.*\(24, 64\).*\(25, 64\)"),
        ("INPUT_SCALE: 1.0", "INPUT_SCALE: 0.5", "CLIP mini_strong .* input scale of 2.0, but the model's is 1.0"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, old, new, message):
    edit(folder / "config.yaml", old, new)
    with pytest.raises(ValueError, match=message):
        PosSAM.from_pretrained(folder)


def test_a_configuration_cannot_run_code(folder, tmp_path):
    marker = tmp_path / "ran"
    (folder / "config.yaml").write_text(f"MODEL: !!python/object/apply:os.system ['touch {marker}']")
    with pytest.raises(ValueError, match="config.yaml is not plain YAML"):
        PosSAM.from_pretrained(folder)
    (folder / "config.yaml").write_text("just words")
    with pytest.raises(ValueError, match="config.yaml is not a YAML mapping"):
        PosSAM.from_pretrained(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("MODEL: {META_ARCHITECTURE: PosSAM, DEVICE: banana}", "MODEL.DEVICE of .*config.yaml is 'banana'"),
        ("MODEL: {META_ARCHITECTURE: PosSAM, DEVICE: ~}", r"config.yaml has no value for \[MODEL.DEVICE\]"),
        ("MODEL: {META_ARCHITECTURE: [PosSAM]}", "config.yaml has the MODEL.META_ARCHITECTURE \\['PosSAM'\\]"),
        ("MODEL: &a {SAM: *a}", "config.yaml unfolds to over 100,000 values"),
        ("[" * 2000, "config.yaml is not plain YAML"),
    ],
)
def test_a_configuration_that_would_hang_or_crash_is_refused(folder, content, message):
    (folder / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        PosSAM.from_pretrained(folder)


def test_a_damaged_vocabulary_is_named(folder):
    (folder / "vocabulary.json").write_text('{"name": "a"}')
    with pytest.raises(ValueError, match="vocabulary.json: missing classes"):
        PosSAM.from_pretrained(folder)


def test_other_weights_of_the_same_encoders_are_refused(folder, tmp_path):
    for name, role in (("mini_sam", "sam"), ("mini_clip_strong", "clip")):
        weights = load_file(ROOT / f"possam/encoders/weights/{name}.safetensors")
        weights[next(key for key in weights if key.endswith("bias"))] += 1
        save_file(weights, tmp_path / f"{name}.safetensors")
        message = rf"trained over {role.upper()} mini\w* \(fingerprint \w{{12}}…\), but .*weights=.*{role}'"
        with pytest.raises(ValueError, match=message):
            PosSAM.from_pretrained(folder, weights={role: tmp_path / f"{name}.safetensors"})


def test_weights_that_are_not_there_name_the_command(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = (folder / "config.yaml").read_text()
    sam, clip = "NAME: mini\n    SEED: 0\n    WEIGHTS: shipped", "NAME: mini_strong\n    WEIGHTS: shipped"
    edit(folder / "config.yaml", sam, "NAME: vit_b\n    WEIGHTS: weights/b.pth")
    with pytest.raises(FileNotFoundError, match=r"SAM vit_b.*weights/b.pth.*possam weights download sam_vit_b.*sam=P"):
        PosSAM.from_pretrained(folder)
    (folder / "config.yaml").write_text(config)
    edit(folder / "config.yaml", clip, "NAME: RN50\n    WEIGHTS: weights/rn50.pt")
    with pytest.raises(FileNotFoundError, match=r"CLIP RN50.*weights/rn50.pt.*possam weights download RN50`.*clip=P"):
        PosSAM.from_pretrained(folder)


# ------------------------------------------------------------------ the README


def test_the_readmes_example_runs(saved, tmp_path, monkeypatch):
    from PIL import Image

    text = (saved / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(saved.parent)
    Image.effect_noise((200, 160), 90).convert("RGB").save("drawing.png")
    exec(code, scope := {})
    assert scope["result"].segmentation.shape == (160, 200)
    assert set(scope["result"].labels) <= {"plain circle", "wood"}
