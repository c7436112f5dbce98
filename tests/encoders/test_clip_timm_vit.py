"""Towers over timm's transformers, SigLIP's and EVA's among them, against what timm itself computes."""

import copy

import open_clip
import pytest
import torch
import torch.nn.functional as F

from possam.encoders.clip import FrozenCLIP
from tests.encoders.tiny_clips import MEAN, STD, TEXT, frozen, images, normalized, tokenize

POOLS = {
    "tiny_siglip": ("map", "none"),
    "tiny_pe": ("map", ""),
    "tiny_clip_vit": ("token", ""),
    "tiny_gap_vit": ("avg", "linear"),
    "tiny_eva": ("token", ""),
    "tiny_eva02": ("token", ""),
    "tiny_eva02_e": ("token", ""),
}
ALONE = [name for name, (pool, _) in POOLS.items() if pool != "map"]
EXACT = {"atol": 1e-5, "rtol": 1e-4}


def tower(name, **kwargs):
    pool, proj = POOLS[name]
    vision = {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": 32, **kwargs}
    return frozen(vision, embed_dim=32 if proj == "none" else 16)


def tokens_and_rotation(trunk, pixels):
    """timm's own way up to the blocks."""
    tokens, rotation = trunk.patch_embed(normalized(pixels)), None
    tokens = trunk._pos_embed(tokens)
    if isinstance(tokens, tuple):
        tokens, rotation = tokens
    return trunk.norm_pre(tokens), rotation


def run(block, tokens, rotation, **kwargs):
    return block(tokens, **({} if rotation is None else {"rope": rotation}), **kwargs)


def full_mask(clip, pixels):
    return clip.project(clip.final(pixels).mean(dim=(2, 3)))


def test_siglip_is_its_own_embedding_when_its_pool_attends_uniformly():
    clip = tower("tiny_siglip")
    query = clip.model.visual.trunk.attn_pool.q
    query.weight.data.zero_()
    query.bias.data.zero_()
    pixels = images(32, 32)
    assert clip.final(pixels).shape == (2, 32, 4, 4)
    expected = clip.model.encode_image(normalized(pixels), normalize=True)
    torch.testing.assert_close(full_mask(clip, pixels), expected, **EXACT)


def test_siglip_over_a_mask_is_its_pool_over_the_masks_patches():
    clip = tower("tiny_siglip")
    trunk = clip.model.visual.trunk
    query = trunk.attn_pool.q
    query.weight.data.zero_()
    query.bias.data.zero_()
    pixels = images(32, 32)
    inside = torch.rand(4, 4, generator=torch.Generator().manual_seed(2)) > 0.5
    pooled = clip.final(pixels)[:, :, inside].mean(dim=2)
    expected = trunk.attn_pool(trunk.forward_features(normalized(pixels))[:, inside.flatten()])
    torch.testing.assert_close(clip.project(pooled), F.normalize(expected, dim=-1), **EXACT)


def test_a_map_pool_over_a_class_token_looks_at_the_patches_alone():
    clip = tower("tiny_pe")
    trunk = clip.model.visual.trunk
    trunk.attn_pool.q.weight.data.zero_()
    trunk.attn_pool.q.bias.data.zero_()
    pixels = images(32, 32)
    patches = trunk.forward_features(normalized(pixels))[:, trunk.num_prefix_tokens :]
    expected = trunk.head(trunk.fc_norm(trunk.attn_pool(patches)))
    torch.testing.assert_close(full_mask(clip, pixels), F.normalize(expected, dim=-1), **EXACT)


@pytest.mark.parametrize("name", ALONE)
def test_in_the_last_block_each_patch_attends_to_itself(name):
    clip = tower(name)
    trunk = clip.model.visual.trunk
    pixels = images(32, 32)
    tokens, rotation = tokens_and_rotation(trunk, pixels)
    for block in trunk.blocks[:-1]:
        tokens = run(block, tokens, rotation)
    only_itself = torch.full((tokens.shape[1],) * 2, float("-inf")).fill_diagonal_(0.0)
    tokens = run(trunk.blocks[-1], tokens, rotation, attn_mask=only_itself)
    values = trunk.norm(tokens) if POOLS[name][0] == "avg" else tokens
    values = values[:, trunk.num_prefix_tokens :]
    torch.testing.assert_close(clip.final(pixels).flatten(2).transpose(1, 2), values, **EXACT)
    # One patch, taken for the class token or for the mean, goes through the tower's own ending.
    ending = trunk.fc_norm(values if POOLS[name][0] == "avg" else trunk.norm(values))
    expected = F.normalize(clip.model.visual.head(trunk.head(ending[:, 5])), dim=-1)
    torch.testing.assert_close(clip.project(clip.final(pixels).flatten(2)[:, :, 5]), expected, **EXACT)


def test_a_tower_that_averages_is_its_own_embedding_when_its_last_block_mixes_nothing():
    clip = tower("tiny_gap_vit")
    trunk = clip.model.visual.trunk
    pixels = images(32, 32)
    tokens, _ = tokens_and_rotation(trunk, pixels)
    for block in trunk.blocks[:-1]:
        tokens = block(tokens)
    only_itself = torch.full((16, 16), float("-inf")).fill_diagonal_(0.0)
    expected = clip.model.visual.head(trunk.forward_head(trunk.norm(trunk.blocks[-1](tokens, attn_mask=only_itself))))
    torch.testing.assert_close(full_mask(clip, pixels), F.normalize(expected, dim=-1), **EXACT)


@pytest.mark.parametrize("name", list(POOLS))
def test_another_size_equals_the_tower_set_to_that_size(name):
    """timm's own `set_input_size` resizes absolute positions and spreads rotary ones; here nothing is changed."""
    clip = tower(name)
    pixels = images(40, 56)
    before = {key: value.clone() for key, value in clip.model.visual.trunk.named_buffers()}
    actual = clip.final(pixels)
    assert actual.shape == (2, 32, 5, 7)
    resized = copy.deepcopy(clip)
    resized.model.visual.trunk.set_input_size((40, 56))
    torch.testing.assert_close(actual, resized.final(pixels), **EXACT)
    if rotary := getattr(clip.model.visual.trunk, "rope", None):
        assert tuple(rotary.feat_shape) == (4, 4)
    after = dict(clip.model.visual.trunk.named_buffers())
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not torch.allclose(actual[..., :4, :4], clip.final(pixels[..., :32, :32]), atol=1e-3)  # positions matter


@pytest.mark.parametrize("custom_text", [False, True])
def test_text_is_open_clips_own(custom_text):
    vision = {"timm_model_name": "tiny_siglip", "timm_pool": "map", "timm_proj": "none", "image_size": 32}
    text = {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True} if custom_text else TEXT
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    clip = FrozenCLIP(model=kind(32, vision, text), tokenizer=tokenize, pixel_mean=MEAN, pixel_std=STD)
    expected = clip.model.encode_text(tokenize(["a cat", "a dog"], 16), normalize=True)
    torch.testing.assert_close(clip.encode_text(["a cat", "a dog"]), expected)


@pytest.mark.parametrize(
    ("model", "pool", "message"),
    [
        ("tiny_clip_vit", "max", "must pool by map, token or avg.*global_pool='max'"),
        ("vitamin_small_224", "avg", "must cut the image into square patches.*HybridEmbed.*supported.*EVA02.*SigLIP"),
        ("vit_small_patch16_rope_mixed_224", "avg", "rotary positions of type RotaryEmbeddingMixed"),
    ],
)
def test_unsupported_variants_are_refused(model, pool, message):
    vision = {"timm_model_name": model, "timm_pool": pool, "timm_proj": "linear", "image_size": 32}
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        FrozenCLIP(model=open_clip.CLIP(16, vision, TEXT), tokenizer=tokenize, pixel_mean=MEAN, pixel_std=STD)
