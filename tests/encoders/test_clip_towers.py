"""Dense towers against what open_clip itself computes, on tiny CLIPs with random weights."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from possam.encoders.clip import FrozenCLIP
from possam.encoders.clip import convnext as convnext_tower
from possam.encoders.clip.convnext import _CELLS, _is_common, run_block
from tests.encoders.tiny_clips import MEAN, STD, TEXT, frozen, images, normalized, tokenize


def convnext(**kwargs):
    vision = {"timm_model_name": "tiny_convnext", "timm_pool": "", "timm_proj": "mlp", "image_size": 64}
    return frozen({**vision, **kwargs})


def resnet(image_size=64, **options):
    return frozen({"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": image_size}, **options)


def vit(**kwargs):
    vision = {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
    return frozen({**vision, **kwargs})


@pytest.mark.parametrize("proj", ["mlp", "linear"])
def test_convnext_pooled_over_the_whole_map_is_the_image_embedding(proj):
    clip = convnext(timm_proj=proj)
    pixels = images(64, 64)
    dense = clip.final(pixels)
    assert dense.shape == (2, 64, 2, 2) == (2, clip.feature_dim, 64 // clip.stride, 64 // clip.stride)
    expected = clip.model.encode_image(normalized(pixels), normalize=True)
    torch.testing.assert_close(clip.project(dense.mean(dim=(2, 3))), expected, atol=1e-6, rtol=1e-5)


def test_convnext_at_another_size_is_still_the_image_embedding():
    clip = convnext()
    pixels = images(96, 160)
    expected = clip.model.encode_image(normalized(pixels), normalize=True)
    torch.testing.assert_close(clip.project(clip.final(pixels).mean(dim=(2, 3))), expected, atol=1e-6, rtol=1e-5)


def shaken(clip):
    """With layer scales, norms and biases that matter: fresh ones are next to nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in clip.model.visual.trunk.parameters():
        if parameter.dim() == 1:
            parameter.data += torch.rand(parameter.shape, generator=generator)
    return clip


@pytest.mark.parametrize("size", [(128, 160), (32, 96), (32, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convnext_block_by_block_and_part_by_part_says_what_timm_says(size, dtype, monkeypatch):
    run = []
    monkeypatch.setattr(convnext_tower, "run_block", lambda *x: run.append(x[0]) or run_block(*x))
    tower = shaken(convnext()).to(dtype)._tower
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1)).to(dtype)
    trunk, kept = tower._visual.trunk, pixels.clone()
    with torch.no_grad():
        expected = trunk.forward_features(pixels)
        tolerance = 1e-5 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(tower.dense(pixels), expected, atol=tolerance, rtol=tolerance)
    assert torch.equal(pixels, kept)
    assert run == [block for stage in trunk.stages for block in stage.blocks]


def test_a_convnext_block_goes_part_by_part_only_where_it_is_of_the_common_kind():
    block = shaken(convnext())._tower._visual.trunk.stages[0].blocks[0]
    x = torch.randn(2, 8, 40, 32, generator=torch.Generator().manual_seed(2))
    assert _is_common(block) and x.numel() // 8 > 2 * _CELLS
    with torch.no_grad():
        torch.testing.assert_close(run_block(block, x), block(x), atol=1e-5, rtol=1e-5)
    for name, other in {"act": nn.GELU("tanh"), "norm": nn.LayerNorm(32), "drop1": nn.Dropout(0.5)}.items():
        setattr(block.mlp, name, other)
        assert _is_common(block) == (name == "drop1"), name
        setattr(block.mlp, name, {"act": nn.GELU(), "norm": nn.Identity()}.get(name, other))
    block.gamma = None
    assert not _is_common(block)


def test_convnext_under_autocast_to_another_type_is_timms():
    tower = shaken(convnext())._tower
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = tower._visual.trunk.forward_features(pixels)
        assert torch.equal(tower.dense(pixels), expected)


def test_convnext_has_gradients_for_images_where_they_are_asked_for():
    tower = convnext()._tower
    pixels = torch.zeros(1, 3, 64, 64, requires_grad=True)
    tower.dense(pixels).sum().backward()
    assert pixels.grad is not None and pixels.grad.isfinite().all()


def test_resnet_equals_its_attention_pool_when_attention_is_uniform():
    clip = resnet()
    pool = clip.model.visual.attnpool
    pool.k_proj.weight.data.zero_()
    pool.k_proj.bias.data.zero_()
    pixels = images(64, 64)
    dense = clip.final(pixels)
    assert dense.shape == (2, 256, 2, 2)
    expected = clip.model.encode_image(normalized(pixels), normalize=True)
    torch.testing.assert_close(clip.project(dense.mean(dim=(2, 3))), expected, atol=1e-5, rtol=1e-4)


def test_resnet_equals_its_attention_pool_for_one_cell_whatever_the_attention():
    clip = resnet(image_size=32)
    pool = clip.model.visual.attnpool
    pool.positional_embedding.data[:] = pool.positional_embedding.data.mean(dim=0)
    pixels = images(32, 32)
    expected = clip.model.encode_image(normalized(pixels), normalize=True)
    torch.testing.assert_close(clip.project(clip.final(pixels)[:, :, 0, 0]), expected, atol=1e-5, rtol=1e-4)


def pooled_by_clip(clip, dense):
    """CLIP's own attention pool over a map, normalized."""
    with torch.no_grad():
        return F.normalize(clip.model.visual.attnpool(dense), dim=-1)


def test_without_positions_a_uniform_map_is_the_attention_pool_whatever_the_attention():
    """METHOD.md 2.3: equal where all tokens are one vector, which any attention's weights average to itself."""
    clip = resnet(pool_position=False)
    pool = clip.model.visual.attnpool
    vectors = torch.randn(3, 256)
    uniform = vectors[:, :, None, None].expand(-1, -1, 2, 2)
    # Unequal while the pool has positions, equal without.
    assert (clip.project(vectors) - pooled_by_clip(clip, uniform)).abs().max() > 1e-3
    pool.positional_embedding.data.zero_()
    torch.testing.assert_close(clip.project(vectors), pooled_by_clip(clip, uniform), atol=1e-5, rtol=1e-4)
    # Any other map differs, since the attention is not uniform; its mean is that of the pool where it is.
    dense = torch.randn(3, 256, 2, 2)
    assert (clip.project(dense.mean(dim=(2, 3))) - pooled_by_clip(clip, dense)).abs().max() > 1e-3
    pool.q_proj.weight.data.zero_()
    pool.q_proj.bias.data.zero_()
    torch.testing.assert_close(clip.project(dense.mean(dim=(2, 3))), pooled_by_clip(clip, dense), atol=1e-5, rtol=1e-4)


def test_the_mean_position_is_one_constant_in_clip_space():
    with_position, without = resnet(), resnet(pool_position=False)
    pool = with_position.model.visual.attnpool
    vectors = torch.randn(5, 256)
    moved = vectors + pool.positional_embedding.mean(dim=0)
    torch.testing.assert_close(with_position.project(vectors), without.project(moved))
    assert with_position.fingerprint == without.fingerprint  # of the features, which are the same


def test_resnet_projection_is_a_1x1_convolution():
    """OPSNet's Spatial Adapter: projecting the map and then pooling equals pooling and then projecting."""
    clip = resnet()
    pool = clip.model.visual.attnpool
    dense = clip.final(images(96, 64))
    moved = dense + pool.positional_embedding.mean(dim=0)[None, :, None, None]
    values = F.conv2d(moved, pool.v_proj.weight[:, :, None, None], pool.v_proj.bias)
    projected = F.conv2d(values, pool.c_proj.weight[:, :, None, None], pool.c_proj.bias)
    chosen = torch.rand(2, 3, 2) > 0.4
    for image in range(2):
        expected = F.normalize(projected[image][:, chosen[image]].mean(dim=1), dim=0)
        actual = clip.project(dense[image][:, chosen[image]].mean(dim=1))
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("custom", [False, True])
def test_vit_equals_blocks_whose_last_attention_sees_only_itself(custom):
    clip = vit(**({"scale_attn_inner": True, "scale_heads": True} if custom else {"ls_init_value": 0.5}))
    visual = clip.model.visual
    pixels = images(32, 32)
    tokens = visual._embeds(normalized(pixels))
    for block in visual.transformer.resblocks[:-1]:
        tokens = block(tokens)
    only_itself = torch.zeros(17, 17).masked_fill(~torch.eye(17, dtype=torch.bool), float("-inf"))
    tokens = visual.transformer.resblocks[-1](tokens, attn_mask=only_itself)[:, 1:]
    dense = clip.final(pixels)
    torch.testing.assert_close(dense.flatten(2).transpose(1, 2), tokens, atol=1e-5, rtol=1e-4)
    expected = F.normalize(visual.ln_post(tokens[:, 3]) @ visual.proj, dim=-1)
    torch.testing.assert_close(clip.project(dense.flatten(2)[:, :, 3]), expected, atol=1e-5, rtol=1e-4)


def test_vit_of_one_block_that_averages_patches_is_the_image_embedding_when_patches_see_themselves():
    clip = vit(layers=1, pool_type="avg")
    visual = clip.model.visual
    pixels = images(32, 32)
    block = visual.transformer.resblocks[0]
    only_itself = torch.zeros(17, 17).masked_fill(~torch.eye(17, dtype=torch.bool), float("-inf"))
    pooled, _ = visual._pool(block(visual._embeds(normalized(pixels)), attn_mask=only_itself))
    expected = F.normalize(pooled @ visual.proj, dim=-1)
    torch.testing.assert_close(clip.project(clip.final(pixels).mean(dim=(2, 3))), expected, atol=1e-5, rtol=1e-4)


def test_vit_takes_any_size_and_keeps_positions_in_place():
    clip = vit()
    assert clip.final(images(40, 72)).shape == (2, 32, 5, 9)
    visual = clip.model.visual
    # A position embedding that grows linearly along x must still do so on a wider grid.
    visual.positional_embedding.data[1:] = torch.arange(4.0).repeat(4)[:, None]
    row = clip._tower._positions(4, 8)[1:, 0].reshape(4, 8)
    torch.testing.assert_close(row[:, 2:6], torch.tensor([0.75, 1.25, 1.75, 2.25]).expand(4, 4), atol=0.1, rtol=0)
    assert torch.equal(clip._tower._positions(4, 4), visual.positional_embedding)


@pytest.mark.parametrize(
    "vision",
    [
        {
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
            "image_size": 32,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
        },
        {"layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32, "pool_type": "none"},
        {"timm_model_name": "tiny_convnext", "timm_pool": "rot_attn", "timm_proj": "", "image_size": 64},
        {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64},
    ],
    ids=["attentional pool", "no pool", "convnext with attention pool", "timm resnet"],
)
def test_unsupported_towers_are_refused(vision):
    model = open_clip.CLIP(16, vision, TEXT)
    with pytest.raises(ValueError, match="supported|pool"):
        FrozenCLIP(model=model, tokenizer=tokenize, pixel_mean=MEAN, pixel_std=STD)


def test_the_towers_type_decides_not_a_name():
    class Renamed(open_clip.model.ModifiedResNet):
        """A subclass called anything at all is still a ModifiedResNet."""

    model = resnet().model
    model.visual.__class__ = Renamed
    clip = FrozenCLIP(model=model, tokenizer=tokenize, pixel_mean=MEAN, pixel_std=STD)
    assert clip.final(images(32, 32)).shape == (2, 256, 1, 1)
    model.visual = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="Linear.*ConvNeXt.*ModifiedResNet.*VisionTransformer"):
        FrozenCLIP(model=model, tokenizer=tokenize, pixel_mean=MEAN, pixel_std=STD)
