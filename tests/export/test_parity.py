"""Exported programs give what the model gives, for any number of images, names and classes."""

import numpy as np
import pytest
import torch
from PIL import Image

from possam.classifiers import build_ensemble
from possam.data.pictures import to_rgb
from possam.engine import load_config
from possam.export import compare, export_model, vocabulary_arrays
from possam.export.parity import run_onnx, run_pt2
from possam.export.programs import Scorer, scorer_program
from possam.models import PosSAM
from possam.predict.predictor import Predictor
from possam.shipped import SAMPLE, SAMPLE_WORDS, pretrained_folder
from possam.vocabulary import Vocabulary
from possam.vocabulary.words import read_words, split_words

WORDS = {
    "the sample's": read_words(split_words(SAMPLE_WORDS)),
    "with synonyms": read_words(["disc, coin, plain disc", "snow: stuff", "striped heart, heart"]),
    "one": read_words(["tile: stuff"]),
    "training": Vocabulary.load("mini_a"),
}
RUNNERS = {"pt2": run_pt2, "onnx": run_onnx}
TEXT = ("text_embeddings", "class_rows", "class_seen")


@pytest.fixture(scope="module")
def model():
    return Predictor.from_pretrained("possam-mini", text_cache="").model


def scenes(count):
    """The sample, and it turned, B×3×128×128."""
    scene = torch.from_numpy(to_rgb(SAMPLE)).permute(2, 0, 1).float()
    return torch.stack([scene.rot90(turn, (1, 2)) for turn in range(count)])


@pytest.mark.parametrize(("words", "images"), [("the sample's", 1), ("training", 3)])
def test_every_program_gives_what_its_module_gives(exported, model, words, images):
    differences = compare(model, exported[0], scenes(images), vocabulary_arrays(model, WORDS[words]))
    assert {(each.file, each.output) for each in differences} == {
        (f"{program}.{suffix}", output)
        for suffix in ("pt2", "onnx")
        for program, outputs in (
            ("encoder", ("sam_features", "clip_features")),
            ("decoder", ("mask_logits", "query_embeddings", "clip_embeddings", "clip_empty", "iou")),
            ("scorer", ("scores", "query_logits", "clip_logits")),
        )
        for output in outputs
    }
    assert {each for each in differences if not each.relative < 1e-5} == set()


@pytest.mark.parametrize("suffix", RUNNERS)
def test_from_image_to_scores_with_any_vocabulary(exported, model, suffix):
    def run(program, inputs):
        return RUNNERS[suffix](exported[0] / f"{program}.{suffix}", inputs)

    images = scenes(2)
    seen = run("decoder", run("encoder", {"image": images.numpy()}))
    masks = seen.pop("mask_logits")
    proposed = model.propose([{"image": image} for image in images])
    for words in WORDS.values():
        arrays = vocabulary_arrays(model, words)
        found = run("scorer", seen | {name: arrays[name] for name in TEXT})
        for index, proposals in enumerate(proposed):
            prediction = model.classify(proposals, words, (128, 128))
            close(masks[index], proposals.mask_logits)
            close(found["scores"][index], model.score(prediction))
            close(found["query_logits"][index], prediction.inputs.query_logits)
            close(found["clip_logits"][index], prediction.inputs.clip_logits)


def close(found, wanted):
    assert found.shape == tuple(wanted.shape)
    assert np.abs(found - wanted.numpy()).max() < 1e-4 * wanted.abs().max()


def test_other_decoders_ensembles_and_sizes(tmp_path):
    """SAM's two-way decoder, CLIP's pooling, FC-CLIP's ensemble, and a size that positions are resized to."""
    classes = str(pretrained_folder("possam-mini") / "vocabulary.json")
    settings = {"EMBEDDING.NAME": "clip", "ENSEMBLE.NAME": "geometric"}
    settings["MASK_FORMER.TRANSFORMER_DECODER_NAME"] = "two_way"
    overrides = [part for key, value in settings.items() for part in (f"MODEL.{key}", value)]
    cfg = load_config("configs/mini/possam.yaml", ["MODEL.TRAIN_VOCABULARY", classes, *overrides])
    torch.manual_seed(0)
    model = PosSAM(cfg).eval()
    torch.nn.init.normal_(model.ldp.query_projection.weight, std=0.1)
    export_model(model, tmp_path, formats=["pt2"], image_size=160)
    images = torch.from_numpy(np.array(Image.open(SAMPLE).convert("RGB").resize((160, 160)))).permute(2, 0, 1)[None]
    arrays = vocabulary_arrays(model, WORDS["with synonyms"])
    differences = compare(model, tmp_path, images.float(), arrays)
    assert len(differences) == 10
    assert {each for each in differences if not each.relative < 1e-5} == set()


@pytest.mark.parametrize("name", ["ldp", "clip", "uniform", "modulation", "mase"])
def test_every_ensemble_can_be_traced(model, name, monkeypatch):
    monkeypatch.setitem(model.ensembles, name, build_ensemble(name))
    monkeypatch.setattr(model, "ensemble", name)
    shapes = {"query_embeddings": (24, 96), "clip_embeddings": (24, 96), "clip_empty": (24,), "iou": (24,)}
    traced = scorer_program(model, 128, shapes).export().module()
    torch.manual_seed(0)
    words = WORDS["with synonyms"]
    seen = [torch.randn(3, 24, 96), torch.randn(3, 24, 96), torch.rand(3, 24) > 0.7, torch.rand(3, 24)]
    text = [torch.from_numpy(vocabulary_arrays(model, words)[key]) for key in TEXT]
    with torch.no_grad():
        torch.testing.assert_close(traced(*seen, *text), Scorer(model)(*seen, *text), rtol=1e-5, atol=1e-6)


def test_a_wrong_program_is_found(exported, model):
    """`compare` sees a decoder whose weights are others than the model's."""
    arrays = vocabulary_arrays(model, WORDS["one"])
    other = Predictor.from_pretrained("possam-mini", text_cache="").model
    with torch.no_grad():
        other.mask_decoder.iou_head.layers[-1].bias.add_(0.1)
    wrong = {each.output for each in compare(other, exported[0], scenes(1), arrays) if each.relative > 1e-3}
    assert wrong == {"iou"}
