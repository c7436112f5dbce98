"""Every named CLIP builds; weights bring what they were trained with; wrong files are told apart."""

import re
import sys
import types

import open_clip
import pytest
import torch
from open_clip.constants import INCEPTION_MEAN, INCEPTION_STD, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file

from possam.encoders.clip import FrozenCLIP, building
from possam.encoders.clip.building import _Source, pixel_statistics
from possam.encoders.clip.recognize import create_open_clip, describe_clip
from possam.encoders.clip.tokenizer import OpenClipTokenizer

# name → (embed_dim, feature_dim, stride)
NAMED = {
    "convnext_base": (512, 1024, 32),
    "convnext_base_w": (640, 1024, 32),
    "convnext_base_w_320": (640, 1024, 32),
    "convnext_large_d": (768, 1536, 32),
    "convnext_large_d_320": (768, 1536, 32),
    "convnext_xxlarge": (1024, 3072, 32),
    "RN50": (1024, 2048, 32),
    "RN101": (512, 2048, 32),
    "RN50x4": (640, 2560, 32),
    "RN50x16": (768, 3072, 32),
    "RN50x64": (1024, 4096, 32),
    "RN50-quickgelu": (1024, 2048, 32),
    "ViT-B-32": (512, 768, 32),
    "ViT-B-16": (512, 768, 16),
    "ViT-L-14": (768, 1024, 14),
    "ViT-L-14-336": (768, 1024, 14),
    "ViT-H-14": (1024, 1280, 14),
    "ViT-B-16-SigLIP": (768, 768, 16),
    "ViT-B-16-SigLIP-256": (768, 768, 16),
    "ViT-B-16-SigLIP-384": (768, 768, 16),
    "ViT-B-16-SigLIP-512": (768, 768, 16),
    "ViT-L-16-SigLIP-384": (1024, 1024, 16),
    "ViT-SO400M-14-SigLIP-384": (1152, 1152, 14),
    "ViT-B-16-SigLIP2": (768, 768, 16),
    "ViT-B-16-SigLIP2-384": (768, 768, 16),
    "ViT-L-16-SigLIP2-384": (1024, 1024, 16),
    "ViT-SO400M-16-SigLIP2-384": (1152, 1152, 16),
    "EVA02-B-16": (512, 768, 16),
    "EVA02-L-14": (768, 1024, 14),
    "EVA02-L-14-336": (768, 1024, 14),
}


@pytest.mark.parametrize("name", NAMED)
def test_every_named_model_builds(name):
    with torch.device("meta"):
        clip = FrozenCLIP.build(name=name, weights=None)
    assert (clip.embed_dim, clip.feature_dim, clip.stride) == NAMED[name]
    assert all(tensor.is_meta for tensor in clip.model.state_dict().values())


@pytest.mark.parametrize("name", ["RN50-quickgelu", "ViT-B-16-SigLIP2", "convnext_base"])
def test_models_are_those_of_open_clip(name):
    with torch.device("meta"):
        ours = create_open_clip(name)
        theirs = open_clip.create_model(name, device="meta")
    assert type(ours) is type(theirs) and str(ours) == str(theirs)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swin_base_patch4_window7_224", "SwinTransformer; supported: ConvNeXt, ModifiedResNet"),
        ("MobileCLIP-S1", "FastVit; supported: ConvNeXt, ModifiedResNet"),
        ("coca_ViT-B-32", "is a CoCa"),
    ],
)
def test_models_without_dense_features_are_refused(name, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        FrozenCLIP.build(name=name, weights=None)


def test_a_text_tower_whose_package_is_missing_is_told(monkeypatch):
    monkeypatch.setattr("open_clip.hf_model.transformers", None)
    with torch.device("meta"), pytest.raises(ValueError, match="roberta-base, which cannot be built.*pip install"):
        FrozenCLIP.build(name="roberta-ViT-B-32", weights=None)


def test_pixel_statistics_are_those_the_weights_were_trained_with(tmp_path, caplog):
    openai, inception = (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD), (INCEPTION_MEAN, INCEPTION_STD)
    file = tmp_path / "mine.safetensors"
    assert pixel_statistics("ViT-B-16-SigLIP", _Source(file, None)) == inception  # all its tags agree
    assert pixel_statistics("ViT-L-14", _Source(file, "laion2b_s32b_b82k")) == inception
    assert pixel_statistics("ViT-L-14", _Source(file, "openai")) == openai
    assert pixel_statistics("convnext_tiny", _Source(file, None)) == openai  # no tag at all
    assert not caplog.text
    assert pixel_statistics("ViT-L-14", _Source(file, None)) == openai
    assert "different pixel statistics" in caplog.text


SMALL = {"vision_cfg": {"layers": 1, "width": 64, "patch_size": 8, "image_size": 32}, "embed_dim": 16}
SMALL["text_cfg"] = {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}


@pytest.fixture
def small(monkeypatch):
    """A model of one's own in open_clip's registers: quick-GELU weights under the tag "quick"."""
    from open_clip import factory, pretrained

    monkeypatch.setitem(factory._MODEL_CONFIGS, "small", SMALL)
    monkeypatch.setitem(pretrained._PRETRAINED, "small", {"quick": pretrained._pcfg(hf_hub="a/b/", quick_gelu=True)})
    return create_open_clip("small")


def gelus(clip):
    return {type(module).__name__ for module in clip.modules() if "GELU" in type(module).__name__}


def test_a_tag_brings_the_activation_it_was_trained_with(small, monkeypatch, tmp_path, caplog):
    from open_clip import pretrained

    save_file(small.state_dict(), tmp_path / "file.safetensors")
    monkeypatch.setattr(building, "download_pretrained", lambda config: str(tmp_path / "file.safetensors"))
    by_tag = FrozenCLIP.build(name="small", weights="quick")
    # All known weights of this model have it, so a file of no known name has it, too.
    only = FrozenCLIP.build(name="small", weights=tmp_path / "file.safetensors")
    assert gelus(only) == gelus(by_tag) == {"QuickGELU"}

    monkeypatch.setitem(pretrained._PRETRAINED["small"], "plain", pretrained._pcfg(hf_hub="a/c/"))
    by_file = FrozenCLIP.build(name="small", weights=tmp_path / "file.safetensors")
    assert gelus(by_file) == {"GELU"} and "trained with different activations" in caplog.text
    assert torch.equal(by_tag.model.visual.proj, small.visual.proj)
    # The parameters are equal, the features are not: nor may the fingerprints be.
    assert by_tag.fingerprint != by_file.fingerprint and by_tag.text_fingerprint != by_file.text_fingerprint


def test_a_downloaded_file_is_known_by_its_name(small, monkeypatch, tmp_path):
    from possam.encoders import weight_files

    known = weight_files.WeightFile(name="small", filename="small.quick.safetensors", model="small", tag="quick")
    monkeypatch.setattr(weight_files, "_FILES", (known,))
    save_file(small.state_dict(), tmp_path / known.filename)
    assert gelus(FrozenCLIP.build(name="small", weights=tmp_path / known.filename)) == {"QuickGELU"}


def test_a_tag_that_cannot_be_fetched_is_told(monkeypatch):
    def offline(config):
        raise FileNotFoundError("Failed to download file: no route to host\nlong story")

    monkeypatch.setattr(building, "download_pretrained", offline)
    with pytest.raises(
        ValueError,
        match=r"cannot fetch the weights 'laion2b_s29b_b131k_ft_soup' of CLIP model 'convnext_large_d_320' \(Failed .* "
        r"no route to host\).*possam weights download convnext_large_d_320.*MODEL.CLIP.WEIGHTS.*HF_HOME",
    ):
        FrozenCLIP.build(name="convnext_large_d_320", weights="laion2b_s29b_b131k_ft_soup")


def state_on_meta(name):
    with torch.device("meta"):
        return create_open_clip(name).state_dict()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RN50x16", "width 768 with a ModifiedResNet of width 96 .* of width 768 and 12 layers; it fits RN50x16$"),
        ("convnext_large_d", "a ConvNeXt of width 1536 .* 16 layers; it fits convnext_large_d, convnext_large_d_320$"),
        ("ViT-B-16", "a VisionTransformer of width 768 .*; it fits .*ViT-B-16"),
        ("EVA02-B-16", "a timm transformer of width 768 .*; it fits EVA02-B-16$"),
        ("ViT-B-16-SigLIP-384", "a timm transformer of width 768 .*; it fits .*ViT-B-16-SigLIP-384"),
    ],
)
def test_a_state_dict_says_which_model_it_is_of(name, expected):
    assert re.search(expected, describe_clip(state_on_meta(name)))


def test_a_checkpoint_of_another_clip_is_named(tmp_path):
    torch.save(state_on_meta("RN101"), tmp_path / "clip.pt")
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match="does not fit CLIP model 'RN50': it holds .*; it fits RN101 .*MODEL.CLIP.NAME"),
    ):
        FrozenCLIP.build(name="RN50", weights=tmp_path / "clip.pt")


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("image_encoder.pos_embed", "a SAM; did you mean MODEL.SAM.WEIGHTS"),
        ("vision_model.embeddings.class_embedding", "the layout of transformers"),
        ("layer1.0.conv1.weight", "an image classifier"),
    ],
)
def test_what_is_no_clip_is_told(tmp_path, key, what):
    torch.save({key: torch.zeros(2)}, tmp_path / "other.pt")
    with torch.device("meta"), pytest.raises(ValueError, match=f"no CLIP, but what looks like .*{what}"):
        FrozenCLIP.build(name="RN50", weights=tmp_path / "other.pt")


def test_a_cut_file_and_a_torchscript_program_are_told(tmp_path):
    torch.save({"visual.proj": torch.zeros(100, 100)}, tmp_path / "whole.pt")
    cut = tmp_path / "RN50.openai.safetensors"
    cut.write_bytes((tmp_path / "whole.pt").read_bytes()[:20_000])
    with pytest.raises(ValueError, match="cannot read CLIP weights.*has 20000 bytes.*possam weights download RN50"):
        FrozenCLIP.build(name="RN50", weights=cut)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "RN50.pt")
    with pytest.raises(ValueError, match="is a TorchScript program.*tag 'openai'.*possam weights download RN50"):
        FrozenCLIP.build(name="RN50", weights=tmp_path / "RN50.pt")


def test_weights_of_another_image_size_are_resized(small, monkeypatch, tmp_path):
    from open_clip import factory

    larger = {**SMALL, "vision_cfg": {**SMALL["vision_cfg"], "image_size": 48}}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "larger", larger)
    torch.save(small.state_dict(), tmp_path / "small.pt")
    clip = FrozenCLIP.build(name="larger", weights=tmp_path / "small.pt")
    assert clip.model.visual.positional_embedding.shape == (37, 64)


def test_a_tokenizer_of_hugging_face_is_loaded_when_a_text_comes(monkeypatch):
    tokenizer = OpenClipTokenizer("ViT-B-16-SigLIP")
    assert "timm/ViT-B-16-SigLIP" in tokenizer.identity and "canonicalize" in tokenizer.identity
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="pip install transformers"):
        tokenizer(["a cat"], 64)

    class AutoTokenizer:
        @staticmethod
        def from_pretrained(*args, **kwargs):
            raise OSError("We couldn't connect to the hub to load this file\nmore")

    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(AutoTokenizer=AutoTokenizer))
    with pytest.raises(ValueError, match=r"timm/ViT-B-16-SigLIP of Hugging Face \(We couldn't.*file\).*hf download"):
        tokenizer(["a cat"], 64)
    assert OpenClipTokenizer("RN50").identity == "{}"
