"""Maps of every stage of a CLIP tower, and the attention pool of masks, against timm's and open_clip's own."""

import pytest
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d

from tests.encoders.tiny_clips import frozen, images, normalized

CONVNEXT = {"timm_model_name": "tiny_convnext", "timm_pool": "", "timm_proj": "mlp", "image_size": 64}
RESNET = {"layers": [1, 2, 1, 1], "width": 8, "head_width": 64, "image_size": 64}
VIT = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
TIMM_VIT = {"timm_model_name": "tiny_siglip", "timm_pool": "map", "timm_proj": "none", "image_size": 32}


@torch.no_grad()
def test_levels_of_a_convnext_are_timms_intermediate_features():
    clip, pixels = frozen(CONVNEXT), images(96, 64)
    expected = clip.model.visual.trunk.forward_intermediates(normalized(pixels), intermediates_only=True)
    found = clip(pixels)
    assert clip.out_channels == {4: 8, 8: 16, 16: 24, 32: 64} and clip.final_stride == 32
    assert list(found) == [4, 8, 16, 32]
    for (stride, got), wanted in zip(found.items(), expected, strict=True):
        assert got.shape == (2, clip.out_channels[stride], 96 // stride, 64 // stride)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_levels_of_a_resnet_are_its_layers():
    clip, pixels, seen = frozen(RESNET), images(64, 96), []
    visual = clip.model.visual
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(normalized(pixels))))))
    expected = seen[:4]
    found = clip(pixels)
    assert clip.out_channels == {4: 32, 8: 64, 16: 128, 32: 256} and list(found) == [4, 8, 16, 32]
    for (stride, got), wanted in zip(found.items(), expected, strict=True):
        assert got.shape == (2, clip.out_channels[stride], 64 // stride, 96 // stride)
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("vision", [VIT, TIMM_VIT], ids=["open_clip", "timm"])
def test_a_vit_has_one_map(vision):
    clip = frozen(vision)
    found = clip(images(32, 48))
    assert clip.out_channels == {8: clip.feature_dim} and clip.final_stride == 8
    assert list(found) == [8] and torch.equal(found[8], clip.final(images(32, 48)))


@pytest.mark.parametrize("vision", [CONVNEXT, RESNET], ids=["convnext", "resnet"])
@pytest.mark.parametrize("strides", [(4,), (32,), (8, 32), (16, 4)])
def test_strides_choose_maps(vision, strides):
    clip, pixels = frozen(vision), images(64, 64)
    every, found = clip(pixels), clip(pixels, strides=strides)
    assert tuple(found) == strides
    assert all(torch.equal(found[stride], every[stride]) for stride in strides)
    assert not any(features.requires_grad or features.is_inference() for features in found.values())


@pytest.mark.parametrize("vision", [CONVNEXT, RESNET, VIT, TIMM_VIT], ids=["convnext", "resnet", "vit", "timm vit"])
@pytest.mark.parametrize("strides", [(64,), (8, 5), ()])
def test_an_unknown_stride_is_refused(vision, strides):
    clip = frozen(vision)
    with pytest.raises(ValueError, match=rf"maps of strides \[.*{clip.final_stride}\], but got strides=\["):
        clip(images(32, 32), strides=strides)


@pytest.mark.parametrize(
    ("scale", "strides"), [(2.0, (2, 4, 8, 16)), (0.5, (8, 16, 32, 64)), (1.5, (3, 5, 11, 21)), (1.0, (4, 8, 16, 32))]
)
def test_strides_are_in_pixels_of_the_image_before_the_input_scale(scale, strides):
    clip, pixels = frozen(CONVNEXT, input_scale=scale), images(64, 128)
    found = clip(pixels)
    assert tuple(clip.out_channels) == tuple(found) == strides and clip.final_stride == strides[-1]
    assert list(clip.out_channels.values()) == [8, 16, 24, 64]
    enlarged = tuple(int(side * scale) for side in (64, 128))
    for stride, own in zip(strides, (4, 8, 16, 32), strict=True):
        assert found[stride].shape[-2:] == (enlarged[0] // own, enlarged[1] // own)
    if scale == 1.5:
        with pytest.raises(ValueError, match=r"strides \[3, 5, 11, 21\]"):
            clip(pixels, strides=(4,))


def attention(pool: AttentionPool2d, query, tokens):
    """What open_clip's pool computes (its `forward`), of a query and tokens of its own: N×D."""
    attended, _ = F.multi_head_attention_forward(
        query=query[:, None],
        key=tokens[:, None],
        value=tokens[:, None],
        embed_dim_to_check=query.shape[-1],
        num_heads=pool.num_heads,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        use_separate_proj_weight=True,
        training=False,
        need_weights=False,
    )
    return attended[:, 0]


@pytest.fixture
def resnet():
    clip = frozen(RESNET | {"image_size": 128})  # 4×4 positions
    pool = clip.model.visual.attnpool
    for layer in (pool.q_proj, pool.k_proj):  # so that attention is far from uniform
        layer.weight.data *= 4
    return clip


def test_open_clips_pool_is_this_attention_over_cells_and_their_mean(resnet):
    """The reference below is open_clip's own."""
    pool = resnet.model.visual.attnpool
    features = resnet.final(images(128, 128))
    for one, wanted in zip(features, pool(features), strict=True):
        cells = one.flatten(1).T
        tokens = torch.cat([cells.mean(dim=0, keepdim=True), cells]) + pool.positional_embedding
        torch.testing.assert_close(attention(pool, tokens[:1], tokens)[0], wanted, atol=1e-5, rtol=1e-5)


def test_a_full_mask_pools_all_cells_but_not_their_mean(resnet):
    pool = resnet.model.visual.attnpool
    features = resnet.final(images(128, 128))
    embeddings, empty = resnet.pool_attentively(features, torch.ones(2, 1, 32, 32))
    assert embeddings.shape == (2, 1, resnet.embed_dim) and not empty.any()
    for one, got in zip(features, embeddings[:, 0], strict=True):
        cells = one.flatten(1).T
        tokens = torch.cat([cells.mean(dim=0, keepdim=True), cells]) + pool.positional_embedding
        wanted = F.normalize(attention(pool, tokens[:1], tokens[1:])[0], dim=0)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
        with_mean = F.normalize(attention(pool, tokens[:1], tokens)[0], dim=0)
        assert not torch.allclose(got, with_mean, atol=1e-4)


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_masks_are_pooled_over_their_own_cells(resnet, size):
    """One by one; positions are resized to another grid, and masks to the cells."""
    pool = resnet.model.visual.attnpool
    features = resnet.final(images(*size))
    rows, columns = size[0] // 32, size[1] // 32
    masks = torch.randn(2, 5, 4 * rows, 4 * columns, generator=torch.Generator().manual_seed(2))
    masks[1, 3] = -1.0
    embeddings, empty = resnet.pool_attentively(features, masks)
    assert empty.nonzero().tolist() == [[1, 3]]
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2, 5))
    assert embeddings.isfinite().all()
    grid = pool.positional_embedding[1:].T.reshape(1, -1, 4, 4)
    positions = F.interpolate(grid, size=(rows, columns), mode="bilinear", align_corners=False)[0].flatten(1).T
    inside = F.interpolate(masks, size=(rows, columns), mode="bilinear", align_corners=False) > 0
    for b in range(2):
        cells = features[b].flatten(1).T
        query = cells.mean(dim=0, keepdim=True) + pool.positional_embedding[:1]
        for q in range(5):
            if not empty[b, q]:
                tokens = (cells + positions)[inside[b, q].flatten()]
                wanted = F.normalize(attention(pool, query, tokens)[0], dim=0)
                torch.testing.assert_close(embeddings[b, q], wanted, atol=1e-5, rtol=1e-5)


def test_only_a_modified_resnet_has_an_attention_pool(resnet):
    assert resnet.has_attention_pool
    for vision in (CONVNEXT, VIT, TIMM_VIT):
        clip = frozen(vision)
        assert not clip.has_attention_pool
        with pytest.raises(ValueError, match="has no attention pool"):
            clip.pool_attentively(clip.final(images(32, 32)), torch.ones(2, 1, 4, 4))
