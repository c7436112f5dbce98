"""The prompted decoder is SAM's where it has SAM's tokens, and the published one with the published tokens."""

import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import MaskDecoder, Sam, TwoWayTransformer
from segment_anything.modeling import PromptEncoder as SAMPromptEncoder
from torch import nn

from possam.decoders import PromptedDecoder, PromptEncoder
from tests.reference import ovsam as reference

SHAPES = {"channels": (1, 1, 1, 1), "width": 32, "embed_dim": 12, "hidden": 48}
SIZE = (96, 128)


class GivenEmbedding(nn.Module):
    """In place of SAM's image encoder."""

    img_size = 128

    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, _):
        return self.embedding


@pytest.fixture(scope="module")
def sam():
    """SAM's own prompt encoder and mask decoder with an 8×8 embedding of 128×128 pixels."""
    torch.manual_seed(0)
    transformer = TwoWayTransformer(depth=2, embedding_dim=32, num_heads=4, mlp_dim=48)
    decoder = MaskDecoder(transformer_dim=32, transformer=transformer, iou_head_hidden_dim=32)
    prompts = SAMPromptEncoder(32, (8, 8), (128, 128), 16)
    model = Sam(GivenEmbedding(torch.randn(1, 32, 8, 8)), prompts, decoder)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def published():
    shapes = reference.head_shapes(**SHAPES)
    return {k: v for k, v in reference.random_state(shapes).items() if k.startswith("mask_decoder.")}


@pytest.fixture(scope="module")
def prompt_state():
    return reference.random_state(reference.prompt_shapes(width=32), scale=0.5)


def decoder(**changes):
    settings = {"channels": 32, "embed_dim": 12, "heads": 4, "dim_feedforward": 48}
    return PromptedDecoder(**{**settings, **changes})


def load_published(state):
    ours = decoder(masks=1, iou_head=False)
    names = {key.removeprefix("mask_decoder.").removeprefix("mask_decoder."): value for key, value in state.items()}
    names.pop("roi_conv.0.conv.weight")
    ours.load_state_dict(names, strict=True)
    return ours.requires_grad_(False)


def decode(ours, encoder, embedding, points, labels, boxes=None, size=(128, 128)):
    tokens = encoder(points, labels, boxes, size)
    return ours(embedding + encoder.no_mask, encoder.positions(tuple(embedding.shape[-2:])), tokens)


@pytest.mark.parametrize("kind", ["click", "clicks", "box", "box and click"])
def test_without_the_label_token_it_is_sams_predictor(sam, kind):
    ours, encoder = decoder(label_token=False), PromptEncoder(channels=32)
    ours.load_state_dict(sam.mask_decoder.state_dict(), strict=True)
    encoder.load_state_dict(sam.prompt_encoder.state_dict(), strict=True)
    count = {"click": 1, "clicks": 2, "box": 0, "box and click": 1}[kind]
    points = torch.tensor([[[40.0, 60.0], [90.0, 20.0]]])[:, :count]
    labels = torch.tensor([[1, 0]])[:, : points.shape[1]]
    boxes = torch.tensor([[10.0, 20.0, 70.0, 100.0]]) if "box" in kind else None
    predictor = SamPredictor(sam)
    predictor.set_torch_image(torch.zeros(1, 3, 128, 128), (128, 128))
    given = {"point_coords": points if points.shape[1] else None, "point_labels": labels if points.shape[1] else None}
    embedding = sam.image_encoder.embedding
    found = decode(ours, encoder, embedding, points, labels, boxes)
    for several, chosen in ((False, slice(0, 1)), (True, slice(1, 4))):
        _, iou, low = predictor.predict_torch(**given, boxes=boxes, multimask_output=several)
        assert torch.allclose(found.mask_logits[:, chosen], low, atol=1e-5, rtol=1e-5)
        assert torch.allclose(found.iou[:, chosen], iou, atol=1e-5, rtol=1e-5)
    assert not found.label.any()


def test_sams_official_names_and_shapes_are_ours_but_for_the_label():
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
    with torch.device("meta"):
        official = MaskDecoder(transformer_dim=256, transformer=transformer).state_dict()
        ours = PromptedDecoder(embed_dim=768).state_dict()
        prompts = PromptEncoder().state_dict()
    new = {key for key in ours if key not in official}
    assert all(ours[key].shape == value.shape for key, value in official.items())
    assert {key.split(".")[0] for key in new} == {"label_token", "label_mlp"}
    assert {key: tuple(value.shape) for key, value in prompts.items()} == reference.prompt_shapes()


@pytest.mark.parametrize(
    ("points", "box"),
    [([(40.0, 60.0, 1)], None), ([(40.0, 60.0, 1), (3.0, 9.0, 0)], None), ([], [5.0, 8.0, 70.0, 90.0])],
)
def test_equals_the_published_decoder(published, prompt_state, points, box):
    ours, encoder = load_published(published), PromptEncoder(channels=32)
    encoder.load_state_dict(prompt_state, strict=True)
    embedding = torch.randn(1, 32, 6, 8, generator=torch.Generator().manual_seed(3))
    coordinates = torch.tensor([point[:2] for point in points]).reshape(1, -1, 2)
    labels = torch.tensor([point[2] for point in points], dtype=torch.int64)[None]
    boxes = None if box is None else torch.tensor([box])
    found = decode(ours, encoder, embedding, coordinates, labels, boxes, SIZE)
    tokens = reference.prompt_tokens(prompt_state, SIZE, points=points, box=box)
    assert torch.allclose(encoder(coordinates, labels, boxes, SIZE)[0], tokens, atol=1e-6)
    expected = reference.mask(published, prompt_state, embedding, tokens, heads=4)
    assert found.iou is None and found.mask_logits.shape == (1, 1, 24, 32)
    assert torch.allclose(found.mask_logits[0, 0], expected, atol=1e-5, rtol=1e-5)


def test_the_label_token_moves_the_masks_and_its_head_does_not(published, prompt_state):
    ours, encoder = load_published(published), PromptEncoder(channels=32)
    encoder.load_state_dict(prompt_state)
    embedding = torch.randn(1, 32, 6, 8, generator=torch.Generator().manual_seed(3))
    arguments = (encoder, embedding, torch.tensor([[[40.0, 60.0]]]), torch.tensor([[1]]))
    before = decode(ours, *arguments)
    for parameter in ours.label_mlp.parameters():
        nn.init.normal_(parameter)
    other_head = decode(ours, *arguments)
    assert torch.equal(before.mask_logits, other_head.mask_logits) and not torch.equal(before.label, other_head.label)
    nn.init.normal_(ours.label_token.weight)
    assert (decode(ours, *arguments).mask_logits - before.mask_logits).abs().max() > 1e-3


def test_points_that_are_padding_are_no_points(prompt_state):
    encoder = PromptEncoder(channels=32)
    encoder.load_state_dict(prompt_state)
    tokens = encoder(torch.tensor([[[7.0, 9.0], [500.0, 3.0]]]), torch.tensor([[1, -1]]), None, SIZE)
    assert torch.equal(tokens[0, 1], encoder.not_a_point_embed.weight[0]) and torch.equal(tokens[0, 2], tokens[0, 1])


def test_what_cannot_be_built_is_refused():
    for wrong in ({"stride": 4}, {"masks": 0}, {"channels": 36}, {"heads": 32}):
        with pytest.raises(ValueError, match="the prompted decoder needs"):
            decoder(**wrong)
