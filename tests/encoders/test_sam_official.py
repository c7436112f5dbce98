"""SAM's official checkpoints: their names and shapes at real size, and the features `segment_anything` computes."""

import hashlib

import pytest
import torch
from segment_anything.build_sam import sam_model_registry

from possam.encoders.sam import FrozenSAM


@pytest.fixture(scope="module")
def reference():
    """A whole SAM ViT-B with random weights, positions included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sam = sam_model_registry["vit_b"](None).eval()
        for key, parameter in sam.image_encoder.named_parameters():
            if "pos" in key:
                parameter.data.normal_(std=0.02)
    return sam


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b_01ec64.pth"
    torch.save(reference.state_dict(), path)
    return path


@torch.no_grad()
def test_vit_b_at_1024_equals_segment_anything(reference, checkpoint):
    frozen = FrozenSAM.build(name="vit_b", weights=checkpoint)
    pixels = torch.rand(3, 1024, 1024, generator=torch.Generator().manual_seed(0)) * 255
    expected = reference.image_encoder(reference.preprocess(pixels)[None])
    actual = frozen.final(pixels[None])
    assert actual.shape == expected.shape == (1, 256, 64, 64)
    assert (actual - expected).norm() <= 1e-5 * expected.norm()
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("size", [(256, 256), (256, 384)])
def test_other_sizes_equal_an_encoder_made_for_them(checkpoint, size):
    """`image_size` resizes on loading, `forward` on the way: the same features, to the last bit."""
    pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 255
    native = FrozenSAM.build(name="vit_b", weights=checkpoint).final(pixels)
    assert native.shape == (1, 256, size[0] // 16, size[1] // 16) and native.isfinite().all()
    if size[0] == size[1]:
        resized = FrozenSAM.build(name="vit_b", weights=checkpoint, image_size=size[0])
        assert resized.encoder.pos_embed.shape == (1, size[0] // 16, size[1] // 16, 768)
        assert torch.equal(resized.final(pixels), native)


def official_on_meta(name, path):
    with torch.device("meta"):
        torch.save(sam_model_registry[name](None).state_dict(), path)  # names and shapes without values
    return path


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_official_names_and_shapes_fit(name, tmp_path):
    with torch.device("meta"):
        frozen = FrozenSAM.build(name=name, weights=official_on_meta(name, tmp_path / "sam.pth"))
        FrozenSAM.build(name=name, weights=tmp_path / "sam.pth", image_size=512)
    assert (frozen.stride, frozen.out_channels[frozen.stride]) == (16, 256)


def test_an_official_checkpoint_of_another_size_is_named(tmp_path):
    official_on_meta("vit_l", tmp_path / "sam_vit_l_0b3195.pth")
    with (
        torch.device("meta"),
        pytest.raises(
            ValueError,
            match=r"sam_vit_l_0b3195.pth do not fit SAM vit_b, .* vit_b: width 768, depth 12.*holds vit_l: width 1024, "
            r"depth 24.*MODEL.SAM.NAME to vit_l, or give weights of vit_b \(`possam weights download sam_vit_b`\)",
        ),
    ):
        FrozenSAM.build(name="vit_b", weights=tmp_path / "sam_vit_l_0b3195.pth")


@pytest.mark.parametrize("filename", ["sam_vit_b_01ec64.pth", "renamed.pth"])
def test_half_a_download_is_told_beside_the_whole(checkpoint, tmp_path, filename):
    half = checkpoint.read_bytes()[: 1 << 20]
    (tmp_path / filename).write_bytes(half)
    with pytest.raises(
        ValueError,
        match=rf"cannot read SAM weights.*{filename}.*has 1048576 bytes \(sha256 {hashlib.sha256(half).hexdigest()}\)"
        r", but sam_vit_b_01ec64.pth has 375042383 \(sha256 ec2df6.*possam weights download sam_vit_b",
    ):
        FrozenSAM.build(name="vit_b", weights=tmp_path / filename)


def test_a_missing_file_says_how_to_fetch_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="possam weights download sam_vit_h. fetches sam_vit_h_4b8939.pth"):
        FrozenSAM.build(name="vit_b", weights=tmp_path / "sam_vit_h_4b8939.pth")
