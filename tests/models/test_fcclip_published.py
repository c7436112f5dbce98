"""FC-CLIP against the outputs of its own code: a small one with random weights, on one image and one merging case."""

import os
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from possam.classifiers import CosineClassifier, MaskPooledEmbedding, build_ensemble
from possam.decoders import DeformablePixelDecoder, MaskDecoder
from possam.encoders import FrozenCLIP
from possam.inference import MaskGrid, Postprocessor
from possam.models import FcClip
from possam.models.converters.fcclip import convert
from possam.necks import LastLevelPool
from possam.vocabulary import ClassEmbeddings, Vocabulary

FIXTURE = Path(os.environ.get("POSSAM_FCCLIP_FIXTURE", "../shared/data/fcclip_mini/fcclip-mini.safetensors"))
pytestmark = pytest.mark.skipif(
    not FIXTURE.is_file(), reason="no FC-CLIP fixture; POSSAM_FCCLIP_FIXTURE names the safetensors file"
)
PANOPTIC = {"void_competes": True, "object_threshold": 0.0, "overlap_threshold": 0.8, "top_k": 20}


@pytest.fixture(scope="module")
def given():
    return load_file(FIXTURE)


class Text:
    """A text bank with the fixture's embeddings."""

    def __init__(self, given):
        counts = given["input.names_per_class"]
        index = torch.arange(len(counts)).repeat_interleave(counts)
        self.embeddings = ClassEmbeddings(embeddings=given["input.text"], class_index=index, num_classes=len(counts))

    def embed(self, vocabulary):
        return self.embeddings


@pytest.fixture(scope="module")
def vocabulary(given):
    things, seen = given["input.things"].tolist(), given["input.seen"].tolist()
    names = [f"shared {k}" if seen[k] else f"new {k}" for k in range(len(seen))]
    return Vocabulary.from_names(names, isthing=[k in things for k in range(len(seen))], name="test")


@pytest.fixture(scope="module")
def model(given, vocabulary):
    vision = {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "mlp", "image_size": 96}
    text = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1}
    clip_model = open_clip.CLIP(32, vision, text)
    state = {key.removeprefix("clip."): value for key, value in given.items() if key.startswith("clip.")}
    missing, unexpected = clip_model.load_state_dict(state, strict=False)
    assert not unexpected and not [key for key in missing if key.startswith("visual.")]
    statistics = {"pixel_mean": open_clip.OPENAI_DATASET_MEAN, "pixel_std": open_clip.OPENAI_DATASET_STD}
    clip = FrozenCLIP(model=clip_model, tokenizer=None, **statistics)
    neck = LastLevelPool(in_channels=clip.out_channels)
    seen = [names for names in vocabulary.display_names if names.startswith("shared")]
    built = FcClip(
        clip=clip,
        neck=neck,
        pixel_decoder=DeformablePixelDecoder(channels=64, in_channels=neck.out_channels, layers=2),
        mask_decoder=MaskDecoder(channels=64, queries=30, layers=3, feedforward=96, iou_head=False),
        class_head=MaskPooledEmbedding(channels=64, embed_dim=32),
        classifier=CosineClassifier(embed_dim=32),
        text_bank=Text(given),
        criterion=torch.nn.Identity(),
        ensembles={"geometric": build_ensemble("geometric", alpha=0.4, beta=0.8)},
        ensemble="geometric",
        train_vocabulary=Vocabulary.from_names(seen, name="train"),
        postprocessor=Postprocessor(**PANOPTIC),
    ).eval()
    own = "checkpoint."
    checkpoint = {key.removeprefix(own): value for key, value in given.items() if key.startswith(own)}
    built.load_state_dict(convert(checkpoint), strict=True)
    return built


@pytest.fixture(scope="module")
def inputs(given, vocabulary):
    height, width = given["input.output_size"].tolist()
    return {"image": given["input.image"], "vocabulary": vocabulary, "height": height, "width": width}


def close(found, wanted, tolerance):
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max(), float((found - wanted).abs().max())


@torch.no_grad()
def test_every_part_gives_its_outputs(model, given, inputs):
    features = model.encode([inputs["image"]])
    for stride, name in ((4, "res2"), (8, "res3"), (16, "res4"), (32, "res5")):
        close(features["clip"][stride], given[f"output.{name}"], 5e-6)
    mask_features, scales = model.pixel_decoder(model.neck(features["clip"]))
    close(mask_features, given["output.mask_features"], 5e-6)
    for scale, stride in zip(scales, (32, 16, 8), strict=True):
        close(scale, given[f"output.scale{stride}"], 5e-6)
    layers, mask_features = model.decode(features)
    close(layers[-1].queries, given["output.queries"], 2e-5)
    close(layers[-1].mask_logits, given["output.pred_masks"], 2e-5)
    close(model.embed_masks(layers, mask_features, features)[0], given["output.class_embed"], 2e-5)


@torch.no_grad()
def test_the_prediction_gives_its_scores_and_segmentations(model, given, inputs):
    (prediction,) = model.predict([inputs])
    found = prediction.inputs
    close(found.query_logits, given["output.in_vocab_logits"][0], 5e-5)
    wanted = torch.nn.functional.normalize(given["output.clip_embeddings"][0], dim=-1)
    close(found.clip_embeddings, wanted, 5e-5)
    scores = model.score(prediction)
    close(scores, given["output.scores_and_void"][:, :-1], 2e-4)
    close(found.void, given["output.scores_and_void"][:, -1], 2e-4)
    output = model.segment(prediction)
    ids, segments = output["panoptic_seg"]
    assert torch.equal(ids, given["output.panoptic"])
    assert [segment["category_id"] for segment in segments] == given["output.panoptic_classes"].tolist()
    assert torch.equal(output["semantic_seg"], given["output.semantic"].long())
    model.postprocessor.semantic_resize = "scores"
    late = model.segment(prediction, tasks=("semantic",))["semantic_seg"]
    model.postprocessor.semantic_resize = "masks"
    assert torch.equal(late, given["output.semantic_late"].long())
    wanted, order = given["output.instance_scores"].sort(descending=True)  # in no order there
    close(output["instances"].scores, wanted, 2e-4)
    assert torch.equal(output["instances"].pred_classes, given["output.instance_classes"][order])


def test_merging_gives_its_maps(given, vocabulary):
    scores, void = given["merge.scores_and_void"][:, :-1], given["merge.scores_and_void"][:, -1]
    assert (void > scores.amax(dim=1)).any(), "void has to win somewhere"
    masks = MaskGrid(given["merge.mask_logits"], padded_size=(96, 160), image_size=(96, 140), output_size=(130, 190))
    output = Postprocessor(**PANOPTIC)(
        scores, masks, torch.ones(40), void, isthing=vocabulary.isthing, tasks=("panoptic", "semantic")
    )
    ids, segments = output["panoptic_seg"]
    assert torch.equal(ids, given["merge.panoptic"])
    assert [segment["category_id"] for segment in segments] == given["merge.panoptic_classes"].tolist()
    assert torch.equal(output["semantic_seg"], given["merge.semantic"].long())
