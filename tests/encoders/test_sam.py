import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from segment_anything.build_sam import sam_model_registry
from segment_anything.modeling import Sam

from possam.data.miniature.lexicon import EVERYTHING
from possam.data.miniature.world import draw_scene
from possam.encoders import sam
from possam.encoders.sam import SIZES, FrozenSAM, build_image_encoder, resize_positions


def random_state(name, seed=0, image_size=None):
    generator = torch.Generator().manual_seed(seed)
    state = build_image_encoder(name, image_size=image_size).state_dict()
    return {k: torch.randn(v.shape, generator=generator) * 0.1 for k, v in state.items()}


def images(height, width, batch=2, seed=0):
    return torch.rand((batch, 3, height, width), generator=torch.Generator().manual_seed(seed)) * 255


def preprocessed(x):
    # segment_anything's own normalization, without its padding.
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    return (x - mean) / std


@pytest.mark.parametrize("name", ["vit_tiny", "mini"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_native_size_equals_segment_anything(tmp_path, name, suffix):
    state = random_state(name)
    reference = build_image_encoder(name).eval()
    reference.load_state_dict(state)
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    frozen = FrozenSAM.build(name=name, weights=path)
    x = images(128, 128)
    with torch.no_grad():
        expected = reference(preprocessed(x))
    assert torch.allclose(frozen.final(x), expected, atol=1e-5 * float(expected.abs().max()))
    assert frozen.final(x).shape == (2, frozen.out_channels[frozen.stride], 128 // frozen.stride, 128 // frozen.stride)


def test_a_whole_sam_checkpoint_loads_unchanged(tmp_path):
    state = random_state("vit_tiny")
    whole = {f"image_encoder.{k}": v for k, v in state.items()}
    whole |= {
        "prompt_encoder.no_mask_embed.weight": torch.zeros(1, 4),
        "mask_decoder.iou_token.weight": torch.ones(1),
    }
    torch.save(whole, tmp_path / "sam.pth")
    torch.save(state, tmp_path / "encoder.pth")
    one = FrozenSAM.build(name="vit_tiny", weights=tmp_path / "sam.pth")
    two = FrozenSAM.build(name="vit_tiny", weights=str(tmp_path / "encoder.pth"))
    save_file(state, tmp_path / "encoder.safetensors")
    three = FrozenSAM.build(name="vit_tiny", weights=tmp_path / "encoder.safetensors")
    assert one.fingerprint == two.fingerprint == three.fingerprint
    assert torch.equal(one.encoder.pos_embed, state["pos_embed"])


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_real_sizes_have_the_official_parameters(name):
    with torch.device("meta"):
        whole = sam_model_registry[name](None)
        ours = build_image_encoder(name)
    assert isinstance(whole, Sam)
    shapes = {k: v.shape for k, v in whole.image_encoder.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == shapes
    assert [block.window_size for block in ours.blocks] == [b.window_size for b in whole.image_encoder.blocks]
    assert [b.attn.num_heads for b in ours.blocks] == [b.attn.num_heads for b in whole.image_encoder.blocks]
    assert [type(m) for m in ours.modules()] == [type(m) for m in whole.image_encoder.modules()]
    assert ours.blocks[0].norm1.eps == whole.image_encoder.blocks[0].norm1.eps


@pytest.mark.parametrize(("name", "weights"), [("vit_h", None), ("mini", "shipped")])
def test_builds_on_the_meta_device(name, weights):
    with torch.device("meta"):
        frozen = FrozenSAM.build(name=name, weights=weights)
    assert all(tensor.is_meta for tensor in frozen.state_dict().values())
    assert (frozen.stride, frozen.out_channels[frozen.stride]) == (SIZES[name].patch_size, SIZES[name].out_chans)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (256, 128)])
def test_any_size_divisible_by_the_patch_size_works(size):
    frozen = FrozenSAM.build(name="vit_tiny")
    assert frozen.final(images(*size, batch=1)).shape == (1, 16, size[0] // 16, size[1] // 16)


def test_another_size_equals_an_encoder_with_resized_positions():
    # The reference is segment_anything's encoder built for the larger image, its positions bicubically
    # resized; relative positions of the windowed blocks do not change, those of global blocks are
    # interpolated linearly.
    frozen = FrozenSAM.build(name="vit_tiny")
    state = frozen.encoder.state_dict()
    larger = build_image_encoder("vit_tiny", image_size=192).eval()
    positions = F.interpolate(state["pos_embed"].permute(0, 3, 1, 2), size=(12, 12), mode="bicubic")
    state["pos_embed"] = positions.permute(0, 2, 3, 1)
    for key in ("blocks.1.attn.rel_pos_h", "blocks.1.attn.rel_pos_w"):
        state[key] = F.interpolate(state[key].T[None], size=23, mode="linear")[0].T
    larger.load_state_dict(state)
    x = images(192, 192)
    with torch.no_grad():
        expected = larger(preprocessed(x))
    assert torch.allclose(frozen.final(x), expected, atol=1e-5)


def test_positions_are_untouched_at_their_own_size():
    positions = torch.randn(1, 8, 8, 4)
    assert resize_positions(positions, 8, 8) is positions
    assert resize_positions(positions, 5, 9).shape == (1, 5, 9, 4)


def test_frozen_whatever_is_asked():
    model = torch.nn.Sequential(FrozenSAM.build(name="vit_tiny"), torch.nn.Conv2d(16, 1, 1))
    model.train()
    frozen = model[0]
    assert not frozen.training and not any(m.training for m in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.final(images(64, 64).requires_grad_()).requires_grad


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    one, two, other = (
        FrozenSAM.build(name="vit_tiny", weights=w, seed=s) for w, s in [(None, 1), ("", 1), (None, 2)]
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_fingerprint_sees_every_weight():
    one, two = (FrozenSAM.build(name="vit_tiny") for _ in range(2))
    assert one.fingerprint == two.fingerprint
    three = FrozenSAM.build(name="vit_tiny")
    three.encoder.neck[3].bias.data[0] += 1e-3
    assert three.fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "vit_bb"}, "Did you mean 'vit_b'.*Valid names: vit_b, vit_l"),
        ({"name": "vit_tiny", "image_size": 100}, "multiple of its patch size 16, got 100"),
        (
            {"name": "vit_b", "weights": "shipped"},
            "weights is 'shipped', but the package has no weights of 'vit_b', only of mini; give the path of a file; "
            "`possam weights download sam_vit_b` fetches sam_vit_b_01ec64.pth.",
        ),
    ],
)
def test_wrong_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FrozenSAM.build(**kwargs)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 3, 60, 64), "patch size 16, got 60×64"), ((3, 64, 64), "B×3×H×W"), ((1, 1, 64, 64), "B×3×H×W")],
)
def test_wrong_images_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        FrozenSAM.build(name="vit_tiny")(torch.zeros(shape))


@pytest.mark.parametrize("side", [64, 192, 256])
def test_any_image_size_loads_any_positions_as_forward_resizes_them(tmp_path, side):
    state = random_state("vit_tiny")
    torch.save(state, tmp_path / "tiny.pth")
    native = FrozenSAM.build(name="vit_tiny", weights=tmp_path / "tiny.pth")
    other = FrozenSAM.build(name="vit_tiny", weights=tmp_path / "tiny.pth", image_size=side)
    assert other.encoder.pos_embed.shape[1] == side // 16
    assert len(other.encoder.blocks[1].attn.rel_pos_h) == 2 * (side // 16) - 1
    assert torch.equal(other.encoder.blocks[0].attn.rel_pos_h, state["blocks.0.attn.rel_pos_h"])  # windowed
    x = images(side, side)
    assert torch.equal(other.final(x), native.final(x))
    assert other.fingerprint != native.fingerprint


def test_weights_of_another_size_say_what_they_are(tmp_path):
    torch.save({f"image_encoder.{k}": v for k, v in random_state("mini").items()}, tmp_path / "mini.pth")
    with pytest.raises(
        ValueError,
        match=r"do not fit SAM vit_tiny, which expects vit_tiny: width 32.*holds mini: width 96.*SAM.NAME to mini",
    ):
        FrozenSAM.build(name="vit_tiny", weights=tmp_path / "mini.pth")


def test_positions_of_another_window_are_not_resized(tmp_path):
    state = random_state("vit_tiny")
    state["blocks.0.attn.rel_pos_h"] = torch.zeros(11, 16)
    torch.save(state, tmp_path / "window.pth")
    with pytest.raises(ValueError, match=r"of another shape: blocks.0.attn.rel_pos_h \(11, 16\) instead of \(7, 16\)"):
        FrozenSAM.build(name="vit_tiny", weights=tmp_path / "window.pth")


@pytest.mark.parametrize(
    ("key", "what"),
    [("image_encoder.trunk.blocks.0.norm1.weight", "SAM 2"), ("vision_encoder.layers.0.qkv.weight", "transformers")],
)
def test_checkpoints_taken_for_sams_are_recognized(tmp_path, key, what):
    torch.save({"model": {key: torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=f"no SAM image encoder, but what looks like .*{what}.*download sam_vit_b"):
        FrozenSAM.build(name="vit_b", weights=tmp_path / "other.pt")


def test_missing_and_unexpected_keys_are_named(tmp_path):
    state = random_state("vit_tiny")
    state["neck.9.bias"] = state.pop("neck.3.bias")
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"1 missing: neck\.3\.bias; 1 unexpected: neck\.9\.bias"):
        FrozenSAM.build(name="vit_tiny", weights=tmp_path / "odd.pth")
    torch.save({"unrelated": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="the file holds no SAM image encoder"):
        FrozenSAM.build(name="vit_tiny", weights=tmp_path / "other.pth")


def test_missing_and_damaged_files_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        FrozenSAM.build(name="vit_tiny", weights=tmp_path / "nowhere.pth")
    for name in ("cut.pth", "cut.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(ValueError, match=f"cannot read SAM weights from .*{name}"):
            FrozenSAM.build(name="vit_tiny", weights=tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="expected a dict of tensors"):
        FrozenSAM.build(name="vit_tiny", weights=tmp_path / "list.pth")


def test_shipped_weights_belong_to_mini_and_are_small():
    path = sam._SHIPPED_FILES["mini"]
    assert path.stat().st_size < 1.3e6
    frozen = FrozenSAM.build(name="mini", weights="shipped")
    assert frozen.out_channels == {8: 64} == {SIZES["mini"].patch_size: SIZES["mini"].out_chans}
    assert torch.isfinite(frozen.final(images(128, 128))).all()


def test_shipped_features_tell_segments_apart():
    # Cells of one thing resemble each other more than cells of two things do; random weights hardly know.
    scenes = [draw_scene([102, i], EVERYTHING) for i in range(10)]
    x = torch.stack([torch.from_numpy(s.image).permute(2, 0, 1).float() for s in scenes])

    def separation(frozen):
        within, between = [], []
        for scene, features in zip(scenes, frozen.final(x), strict=True):
            ids = torch.from_numpy(scene.ids[4::8, 4::8].copy()).flatten()
            things = torch.tensor([s.id for s in scene.segments if s.isthing])
            keep = torch.isin(ids, things)
            cells = F.normalize(features.flatten(1)[:, keep].T, dim=1)
            similar, same = cells @ cells.T, ids[keep][:, None] == ids[keep][None]
            within.append(similar[same & ~torch.eye(len(same), dtype=torch.bool)])
            between.append(similar[~same])
        one, two = torch.cat(within), torch.cat(between)
        return float((one[:, None] > two[None, ::7]).float().mean())

    shipped, random = (separation(FrozenSAM.build(name="mini", weights=w)) for w in ("shipped", None))
    assert shipped > 0.8, shipped
    assert shipped > random + 0.1, random
