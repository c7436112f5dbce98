"""The pre-training of the miniature CLIPs: what is pooled, what is contrasted, what the sentences say."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from possam.data.miniature.lexicon import EVERYTHING, ThingKind, kind_of
from possam.encoders.clip import mini

TOOL = Path(__file__).parents[2] / "tools" / "pretrain_mini_clip.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("pretrain_mini_clip", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_weighted_pooling_with_a_full_mask_is_the_towers_own_embedding(tool):
    torch.manual_seed(0)
    model = mini.create_model("mini_weak").eval()
    pixels = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    normalized = (pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    weights = tool.cell_weights(torch.ones(2, 96, 96, dtype=torch.uint8))
    actual = tool.embed_images(model, pixels, weights)
    torch.testing.assert_close(actual, model.encode_image(normalized), atol=1e-5, rtol=1e-4)


def test_cells_weigh_what_the_segment_covers(tool):
    mask = torch.zeros(1, 96, 96, dtype=torch.uint8)
    mask[0, :16, :24] = 1  # all of one cell and half of the next
    weights = tool.cell_weights(mask)
    assert weights.shape == (1, 6, 6) and weights.sum().item() == pytest.approx(1)
    assert weights[0, 0, :2].tolist() == pytest.approx([2 / 3, 1 / 3], abs=2e-3)
    assert torch.isfinite(tool.cell_weights(torch.zeros_like(mask))).all()


def test_equal_meanings_are_positives(tool):
    torch.manual_seed(0)
    images, texts, scale = torch.randn(4, 8), torch.randn(4, 8), torch.tensor(5.0)
    meanings = torch.tensor([3, 7, 3, 1])
    similarity = 5.0 * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    expected = 0.0
    for logits in (similarity, similarity.T):
        for row, positives in zip(logits.log_softmax(dim=1), [(0, 2), (1,), (0, 2), (3,)], strict=True):
            expected -= sum(row[p] for p in positives) / len(positives) / 8
    assert tool.contrastive_loss(images, texts, meanings, scale).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("says", ["all", "shape", "attribute"])
def test_sentences_mean_what_their_number_says(tool, says):
    kinds = torch.arange(len(EVERYTHING.kinds)).repeat(2)
    sentences, meanings = tool.captions(kinds, says=says, rng=np.random.default_rng(0))
    assert len(meanings.unique()) == {"all": 133, "shape": 15 + 13, "attribute": 8 + 13}[says]
    for sentence, number, meaning in zip(sentences, kinds.tolist(), meanings.tolist(), strict=True):
        kind = EVERYTHING.kinds[number]
        assert meaning == meanings[number]  # the same kind, asked again, means the same
        spoken = [name for name in kind.names if f" {name}" in sentence.rstrip(".")]
        if says == "all" or not isinstance(kind, ThingKind):
            assert spoken and all(kind_of(name) == kind for name in spoken)
        else:
            assert not spoken


def test_a_sentence_is_shared_by_pictures_of_one_meaning(tool):
    torch.manual_seed(0)
    model = mini.create_model("mini_weak").eval()
    sentences = ["a photo of a striped star.", "There is the lawn in the scene", "a photo of a banded star."]
    texts = tool.embed_sentences(model, sentences, torch.tensor([5, 2, 5]))
    expected = model.encode_text(mini.WordTokenizer()([sentences[0], sentences[1], sentences[0]]))
    torch.testing.assert_close(texts, expected)


def test_views_show_their_segment_and_batches_keep_pictures_and_masks_together(tool):
    crops = tool.draw_crops(24, seed=0)
    assert crops.pixels.shape == (24, 96, 96, 3) and crops.pixels.dtype == torch.uint8
    assert (crops.masks.flatten(1).float().mean(1) > 0.02).all()
    marked = crops._replace(pixels=crops.masks[..., None].repeat(1, 1, 1, 3))  # a picture that is its own mask
    for batch, _ in zip(tool.batches(marked, 8, generator=torch.Generator().manual_seed(0)), range(6), strict=False):
        assert torch.equal(batch.pixels[..., 0], batch.masks)


def test_surfaces_are_mirrored_sideways_at_most_and_things_turned_as_well(tool):
    torch.manual_seed(0)
    masks = torch.randint(0, 2, (4, 8, 8), dtype=torch.uint8)
    turned = {}
    for name in ("grass", "striped star"):
        kinds = torch.full((4,), EVERYTHING.class_of[kind_of(name)])
        stream = tool.batches(
            tool.Crops(masks[..., None].repeat(1, 1, 1, 3), masks, kinds), 4, generator=torch.Generator().manual_seed(0)
        )
        seen = [mask for _ in range(8) for mask in next(stream).masks]
        turned[name] = sum(not any(torch.equal(mask.sum(1), own.sum(1)) for own in masks) for mask in seen)
        assert any(not any(torch.equal(mask, own) for own in masks) for mask in seen)
    assert turned["grass"] == 0 < turned["striped star"]
