"""Prompts without their padding have the embeddings they have with it."""

from concurrent.futures import ThreadPoolExecutor

import open_clip
import pytest
import torch

from possam.encoders import FrozenCLIP
from possam.encoders.clip.prompts import encode_prompts, prompt_ends

TEXTS = ["a", "a photo of a cat.", "There is a large traffic light, traffic signal, stoplight in the scene."] * 3
SMALL = {"embed_dim": 32, "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}
VISION = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}


@pytest.fixture(params=["CLIP", "CustomTextCLIP"])
def model(request):
    torch.manual_seed(0)
    return getattr(open_clip, request.param)(**SMALL, vision_cfg=VISION).eval()


@torch.no_grad()
def test_equals_open_clip_and_reads_only_what_is_there(model, monkeypatch):
    tokens = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    expected = model.encode_text(tokens)
    seen = []
    transformer = getattr(model, "text", model).transformer
    transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    torch.testing.assert_close(encode_prompts(model, tokens), expected, rtol=1e-5, atol=1e-6)
    assert seen == [int(tokens.argmax(-1).max()) + 1] and seen[0] < 25
    assert torch.equal(model.encode_text(tokens), expected), "the model itself is as it was"


@torch.no_grad()
def test_a_tower_that_looks_ahead_gets_every_token(model):
    tower = getattr(model, "text", model)
    tokens = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    tower.attn_mask.zero_()
    assert prompt_ends(model, tokens) is None
    assert torch.equal(encode_prompts(model, tokens), model.encode_text(tokens))


def test_texts_of_any_length_keep_their_order():
    clip = FrozenCLIP.build(name="mini_strong", weights="shipped")
    texts = ["a photo of a striped star.", "sea", "a photo of the large sea.", "tile"]
    together = clip.encode_text(texts)
    alone = torch.cat([clip.encode_text([text]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_threads_encode_texts_of_different_lengths():
    clip = FrozenCLIP.build(name="mini_strong", weights="shipped")
    texts = [["sea"], ["a photo of a striped star.", "tile"], ["There is a striped star in the scene."]] * 20
    alone = [clip.encode_text(text) for text in texts[:3]] * 20
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(clip.encode_text, texts))
    assert all(torch.equal(*pair) for pair in zip(together, alone, strict=True))
