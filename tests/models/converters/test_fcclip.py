"""FC-CLIP's published files are known by their tensors, whatever their CLIP, and load where a model is named."""

import logging

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from possam.cli import main
from possam.config import SavedConfig
from possam.encoders.clip import building
from possam.encoders.state_dicts import differences
from possam.engine import Checkpointer
from possam.models import FcClip, PosSAM, converters
from possam.models.converters import check_published, convert_checkpoint, fcclip
from possam.predict.predictor import Predictor
from possam.vocabulary import Vocabulary
from tests.models.converters.published import BACKBONES, published_state

MINI = ((64, 192, 192, 192), 96)
SMALL = {"channels": 64, "queries": 12, "layers": 3, "ffn": 96, "pixel_layers": 1, "pixel_ffn": 80}


@pytest.fixture
def mini_clip(monkeypatch, tmp_path):
    """The shipped CLIP is among the known ones, and images are small."""
    monkeypatch.setitem(fcclip._CLIPS, MINI, ("mini_strong", "shipped"))
    monkeypatch.setitem(fcclip._PUBLISHED_SETTINGS, "INPUT.IMAGE_SIZE", 128)  # to be fast
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def state():
    return published_state(*MINI, **SMALL, device="cpu")


@pytest.fixture
def file(mini_clip, state, tmp_path):
    path = tmp_path / "fcclip.pth"
    torch.save({"model": state, "optimizer": {"state": {}}, "iteration": 7}, path)
    return path


@pytest.mark.parametrize("clip", BACKBONES)
def test_a_file_tells_its_clip(clip):
    widths, embed_dim, parameters = BACKBONES[clip]
    state = published_state(widths, embed_dim)
    assert len(state) == 303
    converted = convert_checkpoint({"model": state}, "a.pth")
    assert converted.settings["MODEL.CLIP.NAME"] == clip
    if clip.startswith("RN"):
        assert converted.settings["MODEL.CLIP.WEIGHTS"] == "openai"
    assert converted.settings["MODEL.FC_CLIP.ENSEMBLE_ON_VALID_MASK"] == clip.startswith("RN")
    assert len(converted.parameters) == 302
    if parameters:
        assert sum(value.numel() for value in converted.parameters.values()) == parameters
    cfg = SavedConfig(converted.settings, source="a.pth").over_defaults()
    masks, pixels = cfg.MODEL.MASK_FORMER, cfg.MODEL.SEM_SEG_HEAD
    assert (masks.NUM_OBJECT_QUERIES, masks.HIDDEN_DIM, masks.DEC_LAYERS, masks.DIM_FEEDFORWARD) == (250, 256, 10, 2048)
    assert (pixels.TRANSFORMER_ENC_LAYERS, pixels.TRANSFORMER_ENC_DIM_FEEDFORWARD) == (6, 1024)
    assert pixels.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS == 4
    assert cfg.MODEL.ENSEMBLE.NAME == "geometric" and cfg.TEST.VOID_COMPETES and not cfg.INPUT.PAD_TO_SQUARE


@pytest.mark.parametrize("clip", ["convnext_large_d_320", "RN50"])
def test_the_model_has_exactly_the_tensors_of_a_file(clip):
    converted = convert_checkpoint({"model": published_state(*BACKBONES[clip][:2])}, "a.pth")
    assert not differences(converters._expected(converted), converted.parameters)


def test_a_file_loads_as_a_model(file, state):
    model = FcClip.from_pretrained(file, device="cpu")
    assert not model.training and model.train_vocabulary == Vocabulary.load("coco_panoptic")
    assert model.ensemble == "geometric" and model.find_ensemble().alpha == 0.4
    found = model.state_dict()
    assert len(found) == len(state) - 1
    predictor = "sem_seg_head.predictor."
    for ours, theirs in (
        ("mask_decoder.layers.2.cross.attention.in_proj.weight",
         "transformer_cross_attention_layers.2.multihead_attn.in_proj_weight"),
        ("class_head.mlp.layers.2.bias", "class_embed.layers.2.bias"),
        ("classifier.log_scale", "logit_scale"),
    ):  # fmt: skip
        assert torch.equal(found[ours], state[predictor + theirs])
    assert torch.equal(found["classifier.void"], state["void_embedding.weight"][0])


def test_a_predictor_takes_the_file_and_saves_a_folder(file, tmp_path):
    predictor = Predictor.from_pretrained(str(file), device="cpu", text_cache="")
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    first = predictor(image, ["ring", "snow: stuff"])
    assert first.segmentation.shape == (60, 90)
    again = Predictor.from_pretrained(predictor.model.save_pretrained(tmp_path / "saved"), device="cpu", text_cache="")
    assert np.array_equal(first.segmentation, again(image, ["ring", "snow: stuff"]).segmentation)


def test_the_command_segments_with_the_file(file, tmp_path, capsys):
    words = ["segment", "--sample", "--model", str(file), "--device", "cpu", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    assert (tmp_path / "out" / "panoptic.json").is_file()


def test_weights_of_model_weights_are_converted(file, state, caplog, monkeypatch):
    model = FcClip.from_pretrained(file, device="cpu", text_cache="")
    with torch.no_grad():
        for parameter in model.class_head.parameters():
            parameter.zero_()
    with caplog.at_level(logging.WARNING):
        Checkpointer(model).load(str(file))
    assert torch.equal(
        model.class_head.projection.weight, state["sem_seg_head.predictor._mask_pooling_proj.1.weight"]
    )
    assert not caplog.records
    model.config = model.config.replace("OBJECT_MASK_THRESHOLD: 0.0", "OBJECT_MASK_THRESHOLD: 0.3")
    Checkpointer(model).load(str(file))
    assert "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD 0.0 (it is 0.3)" in caplog.text


def test_another_architecture_is_refused(file, mini_model):
    assert isinstance(mini_model, PosSAM)
    with pytest.raises(ValueError, match=r"is FC-CLIP over CLIP mini_strong.*META_ARCHITECTURE FcClip.*is a PosSAM"):
        Checkpointer(mini_model).load(str(file))
    with pytest.raises(ValueError, match=r"a FcClip, not a PosSAM; use FcClip.from_pretrained"):
        PosSAM.from_pretrained(file)


def test_another_size_is_refused_with_the_settings(file, state, tmp_path):
    model = FcClip.from_pretrained(file, device="cpu", text_cache="")
    other = published_state(*MINI, **{**SMALL, "queries": 9}, device="cpu")
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"does not fit .*; set MODEL.MASK_FORMER.NUM_OBJECT_QUERIES 9 \(not 12\)"):
        Checkpointer(model).load(str(tmp_path / "other.pth"))
    torch.save(published_state(*BACKBONES["RN50"][:2], device="cpu"), tmp_path / "rn50.pth")
    with pytest.raises(ValueError, match=r"over CLIP RN50 .*set .*MODEL.CLIP.NAME RN50 \(not mini_strong\)"):
        Checkpointer(model).load(str(tmp_path / "rn50.pth"))


def test_clip_weights_in_the_file_are_not_used_and_must_be_the_models(state, mini_clip, tmp_path, caplog):
    weights = load_file(building.mini.MODELS["mini_strong"].weights)
    held = {f"backbone.clip_model.{key}": value for key, value in weights.items()}
    torch.save({f"module.{key}": value for key, value in {**state, **held}.items()}, tmp_path / "with.pth")
    with caplog.at_level(logging.INFO):
        model = FcClip.from_pretrained(tmp_path / "with.pth", device="cpu", text_cache="")
    assert "holds weights of a frozen encoder, which are not used" in caplog.text
    assert len(model.state_dict()) == len(state) - 1
    held["backbone.clip_model.logit_scale"] = weights["logit_scale"] + 0.1
    torch.save({**state, **held}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"1 of \d+ tensors .*, such as clip.model.logit_scale.*MODEL.CLIP.W"):
        FcClip.from_pretrained(tmp_path / "other.pth", device="cpu", text_cache="")


def test_what_is_not_whole_is_refused(mini_clip, state, file, tmp_path):
    def message(changed):
        torch.save(changed, tmp_path / "changed.pth")
        with pytest.raises(ValueError) as raised:
            FcClip.from_pretrained(tmp_path / "changed.pth", text_cache="")
        return str(raised.value)

    predictor = "sem_seg_head.predictor."
    without = {key: value for key, value in state.items() if key != predictor + "decoder_norm.bias"}
    assert "mask_decoder.norm.bias is missing" in message(without)
    without = {key: value for key, value in state.items() if key != "void_embedding.weight"}
    assert "looks like a checkpoint of FC-CLIP, but void_embedding.weight is missing" in message(without)
    assert "other.weight is no tensor of FC-CLIP" in message({**state, "other.weight": torch.ones(1)})
    assert "known are RN50" in message({**state, "void_embedding.weight": torch.ones(1, 95)})
    damaged = {**state, predictor + "decoder_norm.bias": torch.full((64,), float("nan"))}
    assert "NaN or infinite: mask_decoder.norm.bias" in message(damaged)
    with pytest.raises(ValueError, match="not whole: it is FC-CLIP .* NaN"):
        check_published(tmp_path / "changed.pth")


def test_weights_that_are_not_there_name_the_command(mini_clip, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no connection")

    monkeypatch.setattr(building, "download_pretrained", fail)
    monkeypatch.chdir(tmp_path)
    torch.save(published_state(*BACKBONES["RN50"][:2], device="cpu"), "rn50.pth")
    with pytest.raises(ValueError, match=r"weights 'openai' of CLIP.*'RN50' \(no conn.*download RN50.*clip=PATH"):
        FcClip.from_pretrained("rn50.pth")
    with pytest.raises(FileNotFoundError, match="CLIP RN50.*nowhere.pt does not exist.*download RN50"):
        FcClip.from_pretrained("rn50.pth", weights={"clip": "here/nowhere.pt"})
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/RN50.openai.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="cannot read CLIP weights from weights/RN50.openai.safetensors"):
        FcClip.from_pretrained("rn50.pth")
    strong = load_file(building.mini.MODELS["mini_strong"].weights)
    torch.save(strong, "other.pt")
    with pytest.raises(ValueError, match="does not fit CLIP model 'RN50'"):
        FcClip.from_pretrained("rn50.pth", weights={"clip": "other.pt"})


def test_the_weights_commands_know_the_files(file, tmp_path, capsys, monkeypatch):
    assert main(["weights", "list", "--folder", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "fcclip_convnext_large_d_320" in listed and "fcclip_RN50x64" in listed
    assert main(["weights", "download", "fcclip_RN50", "--folder", str(tmp_path)]) != 0
    told = capsys.readouterr().err
    assert "https://drive.google.com/file/d/1tcB-8FNON-LwckXQbUyKcBA2G7TU65Zh" in told
    assert "possam weights verify fcclip_cocopan_r50.pth" in told
    assert main(["weights", "verify", str(file)]) == 0
    told = capsys.readouterr().out
    assert "is FC-CLIP over CLIP mini_strong (12 queries, 1 + 3 decoder layers), and whole: " in told
    assert "No checksum" in told
