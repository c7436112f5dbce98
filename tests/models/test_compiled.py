"""A compiled model says what the plain one says, and its checkpoints are the same."""

import shutil
import warnings

import pytest
import torch

from possam.encoders import FrozenSAM
from possam.models import possam
from possam.models.compiled import compile_parts
from possam.vocabulary import Vocabulary


def parts(model):
    return model.sam, model.clip, model.pyramid, model.pixel_decoder, model.mask_decoder


@pytest.fixture
def clean_dynamo():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_the_whole_model_has_parity(mini_model, clean_dynamo):
    image = torch.randint(0, 256, (3, 128, 96), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    inputs = [{"image": image, "vocabulary": Vocabulary.load("mini_b")}]
    names = list(mini_model.state_dict())
    plain = mini_model.eval().propose(inputs)[0]
    compile_parts(*parts(mini_model), backend="aot_eager")
    compiled = mini_model.propose(inputs)[0]
    assert list(mini_model.state_dict()) == names  # no prefix of the compiler's
    for field in ("mask_logits", "query_embeddings", "clip_embeddings", "iou"):
        expected, found = getattr(plain, field), getattr(compiled, field)
        assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max())), field


@pytest.mark.skipif(torch.__version__ < "2.11", reason="older versions break the graph where autocast is asked for")
def test_the_encoder_is_one_graph(clean_dynamo):
    frozen, images = FrozenSAM.build(name="vit_tiny"), torch.rand(1, 3, 64, 64) * 255
    expected = frozen.final(images)
    compile_parts(frozen, backend="aot_eager", fullgraph=True)
    assert torch.allclose(frozen.final(images), expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on the CPU")
def test_inductor_has_parity(clean_dynamo, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    frozen, images = FrozenSAM.build(name="vit_tiny"), torch.rand(1, 3, 64, 64) * 255
    expected = frozen.final(images)
    compile_parts(frozen, options={"compile_threads": 1})  # in this process, which then leaves none behind
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about itself
        found = frozen.final(images)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_the_setting_compiles_what_it_says(mini_model, monkeypatch):
    asked = []
    monkeypatch.setattr(possam, "compile_parts", lambda *modules: asked.extend(modules))
    config = dict.fromkeys(("text_bank", "ldp", "classifier", "criterion"), torch.nn.Identity())
    named = dict(zip(("sam", "clip", "pyramid", "pixel_decoder", "mask_decoder"), parts(mini_model), strict=True))
    common = {"ensembles": {}, "ensemble": "mase", "train_vocabulary": mini_model.train_vocabulary}
    possam.PosSAM(**named, **config, **common)
    assert not asked
    possam.PosSAM(**named, **config, **common, compiled=True)
    assert asked == list(parts(mini_model))
