"""The shipped miniature CLIPs: real open_clip models, a word tokenizer, and accuracy on masks they were made for."""

import logging

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from possam.data.miniature.lexicon import palette_of, words
from possam.data.miniature.world import draw_scene
from possam.encoders.clip import FrozenCLIP, mini
from possam.layers.mask_pooling import mask_pool
from possam.vocabulary import VILD_TEMPLATES, Vocabulary
from tests.encoders.tiny_clips import frozen

SIZE_LIMIT = 4_000_000  # bytes of all shipped encoders together


def test_tokenizer_knows_the_world_and_the_templates():
    tokenizer = mini.WordTokenizer()
    spoken = [*words(), *(template.format("star") for template in VILD_TEMPLATES)]
    assert not (tokenizer(spoken) == tokenizer.UNKNOWN).any()


def test_tokenizer_rows():
    tokenizer = mini.WordTokenizer()
    a, star = (tokenizer([word])[0, 1].item() for word in ("a", "star"))
    assert a != star
    rows = tokenizer(["A Star.", "a star, a star"], 5)
    assert rows.tolist() == [[1, a, star, tokenizer.end, 0], [1, a, star, a, tokenizer.end]]
    assert tokenizer.end == tokenizer.vocab_size - 1  # open_clip pools a text at its largest id
    assert tokenizer("a star").shape == (1, mini.CONTEXT_LENGTH)


def test_an_unknown_word_is_reported_once(caplog):
    tokenizer = mini.WordTokenizer()
    with caplog.at_level(logging.WARNING):
        rows = tokenizer(["a zebra", "a zebra star", "a zebra"])
    assert (rows[:, 2] == tokenizer.UNKNOWN).all()
    assert caplog.text.count("zebra") == 1


@pytest.mark.parametrize("name", sorted(mini.MODELS))
def test_shipped_models_are_small_open_clip_models(name):
    clip = FrozenCLIP.build(name=name)
    assert isinstance(clip.model, open_clip.CLIP)
    assert 1 < clip.logit_scale <= 100
    with pytest.raises(ValueError, match="ImageNet"):
        getattr(mini, mini.MODELS[name].trunk)(pretrained=True)


def test_shipped_weights_stay_small():
    assert sum(path.stat().st_size for path in mini.WEIGHTS.glob("*.safetensors")) <= SIZE_LIMIT


def accuracy(clip, scenes):
    """Share of ground-truth masks of vocabulary B named correctly, on scenes no training has seen."""
    vocabulary = Vocabulary.load("mini_b")
    palette = palette_of(vocabulary.display_names)
    texts = F.normalize(
        torch.stack([clip.encode_text([t.format(n) for t in VILD_TEMPLATES]).mean(0) for n in vocabulary.names]), dim=-1
    )
    classes = torch.tensor(vocabulary.name_class)
    hits = []
    for index in range(scenes):
        scene = draw_scene([204, index], palette)
        dense = clip.final(torch.from_numpy(scene.image).permute(2, 0, 1)[None].float())
        masks = torch.from_numpy(np.stack([scene.mask(segment) for segment in scene.segments]))
        pooled, _ = mask_pool(dense, 2.0 * masks[None] - 1)
        guess = classes[(clip.project(pooled[0]) @ texts.T).argmax(dim=1)].tolist()
        hits += [palette.class_of[s.kind] == g for s, g in zip(scene.segments, guess, strict=True)]
    return float(np.mean(hits))


def test_the_strong_clip_names_most_masks_and_the_weak_one_fewer():
    strong = accuracy(FrozenCLIP.build(name="mini_strong"), 24)
    weak = accuracy(FrozenCLIP.build(name="mini_weak"), 24)
    assert strong > 0.8
    assert 0.45 < weak < strong - 0.1


def test_words_that_are_not_read_are_told():
    mini_clip = FrozenCLIP.build(name="mini_weak", weights=None)
    assert not mini_clip.reads_any_word
    assert mini_clip.unknown_words(["a photo of a Zebra.", "striped zebra, unicorn", "tile"]) == ["zebra", "unicorn"]
    other = frozen({"layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32})
    assert other.reads_any_word and other.unknown_words(["zebra"]) == []
