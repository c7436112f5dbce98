"""Checkpoints of other models are answered with what they are and what to do."""

import pytest
import torch

from possam.encoders.clip.mini import MODELS
from possam.encoders.clip.recognize import create_open_clip
from possam.engine import Checkpointer
from possam.models import OpenVocabularySegmenter
from possam.models.converters import convert_checkpoint
from tests.models.converters.published import published_state

HEAD = {key: torch.zeros(1) for key in published_state() if key.startswith("sem_seg_head.pixel_decoder.")}
PREDICTOR = {
    key: torch.zeros(1)
    for key in published_state()
    if key.startswith("sem_seg_head.predictor.") and "class_embed" not in key and "_mask_pooling" not in key
}


def named(*keys):
    return {key: torch.zeros(1) for key in keys}


FOREIGN = {
    "MAFT+.*Content-Dependent Transfer": {**published_state(), **named("cdt.cross_atten.linear.weight")},
    "MaskCLIP\\+\\+": named("visual_encoder.blocks.0.attn.q.weight", "psm.linear.0.weight", "criterion.a"),
    "ODISE.*Stable Diffusion": {
        **HEAD, **PREDICTOR,
        **named("backbone.feature_extractor.clip_project.weight", "category_head.null_embed.weight"),
    },
    "Mask2Former.*classes of its training": {
        **HEAD, **PREDICTOR, **named("sem_seg_head.predictor.class_embed.weight", "backbone.res2.0.conv1.weight"),
    },
    "segment_anything's SAM.*--weights sam=PATH": named(
        "image_encoder.pos_embed", "prompt_encoder.not_a_point_embed.weight", "mask_decoder.iou_token.weight"
    ),
    "a CLIP in the layout of transformers": named("vision_model.post_layernorm.bias", "text_model.norm.bias"),
}  # fmt: skip


@pytest.mark.parametrize("message", FOREIGN)
def test_another_model_is_named(message):
    with pytest.raises(ValueError, match=f"a.pth cannot be loaded: it is {message}"):
        convert_checkpoint({"model": FOREIGN[message]}, "a.pth")


def test_a_clip_is_named_with_its_size():
    with torch.device("meta"):
        state = create_open_clip("RN50").state_dict()
    with pytest.raises(ValueError, match=r"is a CLIP of embedding width 1024.*fits RN50.*--weights clip=PATH"):
        convert_checkpoint({"model": state}, "a.pth")


def test_it_is_said_wherever_a_model_is_named(tmp_path, mini_model):
    torch.save(FOREIGN["segment_anything's SAM.*--weights sam=PATH"], tmp_path / "sam.pth")
    loads = (OpenVocabularySegmenter.from_pretrained, lambda path: Checkpointer(mini_model).load(str(path)))
    for path, what in ((tmp_path / "sam.pth", "segment_anything"), (MODELS["mini_weak"].weights, "a CLIP of embed")):
        for load in loads:
            with pytest.raises(ValueError, match=f"cannot be loaded: it is {what}.*--weights"):
                load(path)


def test_own_and_unknown_files(tmp_path):
    load = OpenVocabularySegmenter.from_pretrained
    torch.save({"model": named("mask_decoder.norm.weight"), "frozen": {}, "iteration": 1}, tmp_path / "own.pth")
    with pytest.raises(ValueError, match=r"is a file; expected the folder.*FC-CLIP.*possam share"):
        load(tmp_path / "own.pth")
    torch.save(named("conv.weight", "fc.bias"), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="is a file; expected the folder.*no known model: it holds 2 tensors"):
        load(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match="no file models/missing.pth"):
        load("models/missing.pth")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"<!DOCTYPE html><html><title>Google Drive</title>", "a web page.*browser"),
        ("a.pkl", b"\x80\x04}\x94.", "a pickle.*not read"),
        ("a.pth", b"\0" * 100, "damaged, cut short"),
    ],
)
def test_what_is_no_checkpoint(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is not a checkpoint.*{message}"):
        OpenVocabularySegmenter.from_pretrained(tmp_path / name)


def test_a_torchscript_program_is_named(tmp_path):
    torch.jit.script(torch.nn.Identity()).save(tmp_path / "RN50.pt")
    with pytest.raises(ValueError, match="TorchScript program, the form in which OpenAI"):
        OpenVocabularySegmenter.from_pretrained(tmp_path / "RN50.pt")
