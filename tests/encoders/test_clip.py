"""FrozenCLIP: frozen-ness, geometry, text, building by name, the miniature models."""

import copy
import logging

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from possam.encoders.clip import FrozenCLIP
from possam.encoders.clip.mini import WordTokenizer
from possam.encoders.clip.tokenizer import OpenClipTokenizer, tokenize
from possam.vocabulary.templates import VILD_TEMPLATES

REAL = "RN50"  # only its name and tags; never built here


def build(**kwargs):
    return FrozenCLIP.build(**{"name": "mini_weak", "weights": None, **kwargs})


@pytest.fixture(scope="module")
def clip():
    return build()


def image(height=64, width=64, batch=1):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(3)) * 255


def test_nothing_trains(clip):
    clip.train()
    assert not any(module.training for module in clip.modules())
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    pixels = image().requires_grad_()
    assert not clip.final(pixels).requires_grad
    assert not clip.project(torch.zeros(2, clip.feature_dim, requires_grad=True)).requires_grad
    assert not clip.encode_text(["a star"]).requires_grad


def test_shapes_types_and_unit_vectors(clip):
    dense = clip.final(image(128, 96, batch=2))
    assert clip.input_scale == 2.0 and clip.stride == 16
    assert dense.shape == (2, clip.feature_dim, 16, 12) and dense.dtype == torch.float32
    projected = clip.project(torch.randn(2, 5, clip.feature_dim))
    assert projected.shape == (2, 5, clip.embed_dim) and projected.dtype == torch.float32
    torch.testing.assert_close(projected.norm(dim=-1), torch.ones(2, 5))
    assert torch.isfinite(clip.project(torch.zeros(1, clip.feature_dim))).all()  # an empty mask pools to zero


def test_project_stays_float32_under_autocast(clip):
    pooled = torch.randn(3, clip.feature_dim)
    expected = clip.project(pooled), clip.encode_text(["a star"])
    with torch.autocast("cpu", torch.bfloat16):
        actual = clip.project(pooled), clip.encode_text(["a star"])
    assert torch.equal(actual[0], expected[0]) and torch.equal(actual[1], expected[1])


def test_pixels_are_normalized_and_enlarged_before_the_tower(clip):
    pixels = image(48, 64)
    enlarged = F.interpolate(pixels, scale_factor=2, mode="bilinear", align_corners=False)
    expected = clip.model.visual.trunk.forward_features((enlarged / 255 - 0.5) / 0.25)
    torch.testing.assert_close(clip.final(pixels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (125, 131), (33, 250), (3, 5)])
def test_any_size_maps_onto_whole_cells(clip, height, width):
    rows, columns = clip.input_size(height, width)
    assert rows % clip.stride == 0 == columns % clip.stride
    assert abs(rows - 2 * height) <= clip.stride / 2 or rows == clip.stride
    assert clip.final(image(height, width)).shape[-2:] == (rows // clip.stride, columns // clip.stride)


def test_dense_map_spans_exactly_the_image():
    """A bright square must light up the same part of the map as of the image, also at sizes that are no multiple
    of the stride: its weighted center, in image fractions, stays where it is."""
    clip = build()
    for height, width in ((128, 128), (121, 135)):
        blank, marked = torch.full((2, 1, 3, height, width), 90.0)
        top, left = height * 5 // 8, width // 4
        marked[..., top : top + 12, left : left + 12] = 255
        change = (clip.final(marked) - clip.final(blank)).abs().sum(dim=1)[0]
        change = change**2 / (change**2).sum()
        rows, columns = ((torch.arange(n) + 0.5) / n for n in change.shape)
        assert abs(float(change.sum(1) @ rows) - (top + 6) / height) < 0.06
        assert abs(float(change.sum(0) @ columns) - (left + 6) / width) < 0.06


def test_images_of_a_wrong_shape_are_refused(clip):
    with pytest.raises(ValueError, match="B×3×H×W"):
        clip(torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match="pooled"):
        clip.project(torch.zeros(1, clip.feature_dim + 1))


def test_text_is_open_clips_own_text(clip, monkeypatch):
    texts = [template.format("striped star") for template in VILD_TEMPLATES]
    expected = clip.model.encode_text(clip._tokenizer(texts, clip.context_length), normalize=True)
    torch.testing.assert_close(clip.encode_text(texts), expected)
    monkeypatch.setattr("possam.encoders.clip.frozen_clip.TEXT_CHUNK", 3)
    torch.testing.assert_close(clip.encode_text(texts), expected, atol=1e-6, rtol=1e-5)


def test_too_long_a_text_is_named(clip):
    fits = " ".join(["star"] * (clip.context_length - 2))
    assert clip.encode_text([fits]).shape == (1, clip.embed_dim)
    clip.check_texts([fits])
    with pytest.raises(ValueError, match=r"longer than CLIP's context of 24 tokens"):
        clip.check_texts([fits, f"{fits} star"])
    with pytest.raises(ValueError, match=r"longer than CLIP's context of 24 tokens.*a shorter name: 'star star"):
        clip.encode_text(["a star", fits + " star"])
    with pytest.raises(ValueError, match="non-empty"):
        clip.encode_text([])
    with pytest.raises(ValueError, match="non-empty"):
        clip.encode_text("a star")


def test_too_long_a_text_is_found_by_open_clips_tokenizer_too():
    own = open_clip.get_tokenizer(REAL)
    for tokenizer in (own, OpenClipTokenizer(REAL)):
        assert tokenize(tokenizer, ["cat"], 77).shape == (1, 77)
        assert torch.equal(tokenize(tokenizer, ["a cat!", "dog"], 77), own(["a cat!", "dog"]))
        assert tokenize(tokenizer, ["cat " * 75], 77).shape == (1, 77)
        with pytest.raises(ValueError, match="longer than CLIP's context of 77"):
            tokenize(tokenizer, ["cat " * 76], 77)


def test_too_long_a_text_is_found_where_padding_is_the_end_mark():
    def siglip(texts, context_length):  # cuts as SentencePiece tokenizers do: the end mark, 1, stays and pads
        rows = torch.ones(len(texts), context_length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [5 + len(word) for word in text.split()][: context_length - 1]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        return rows

    assert tokenize(siglip, ["a b c", "a"], 4).tolist() == [[6, 6, 6, 1], [6, 1, 1, 1]]
    for text in ("a b c d", "a b c d e f g"):
        with pytest.raises(ValueError, match=f"context of 4 tokens.*: '{text}'"):
            tokenize(siglip, ["a", text], 4)


def test_logit_scale_is_exponentiated_and_capped(clip):
    assert clip.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    hot = build()
    hot.model.logit_scale.data.fill_(7.0)
    assert hot.logit_scale == 100.0


def test_fingerprint_tells_features_apart(clip):
    assert build().fingerprint == clip.fingerprint
    assert build(seed=1).fingerprint != clip.fingerprint
    assert build(input_scale=0.5).fingerprint != clip.fingerprint
    changed = build()
    changed.model.logit_scale.data += 0.5
    assert changed.fingerprint != clip.fingerprint


def test_text_fingerprint_goes_by_the_text_tower_and_the_tokenizer(clip):
    def text_fingerprint(change=lambda other: None, **kwargs):
        other = build(**kwargs)
        change(other)
        return other.text_fingerprint

    def other_image_tower(other):
        other.model.visual.head.proj.weight.data += 1
        other.model.logit_scale.data += 1

    def other_words(other):
        other._tokenizer = lambda texts, length: WordTokenizer()(texts, length) + 1

    same = clip.text_fingerprint
    assert same not in (clip.fingerprint, text_fingerprint(seed=1))
    assert text_fingerprint(input_scale=0.5) == text_fingerprint(other_image_tower) == same
    assert text_fingerprint(other_words) != same
    for name in ("token_embedding.weight", "positional_embedding", "ln_final.bias", "text_projection"):
        assert text_fingerprint(lambda other, name=name: other.model.get_parameter(name).data.mul_(1.1).add_(1)) != same


def test_fingerprints_do_not_go_by_the_files_format(clip, tmp_path):
    state = {key: value.half() if value.ndim else value for key, value in clip.model.state_dict().items()}
    save_file(state, tmp_path / "clip.safetensors")
    torch.save({"state_dict": dict(reversed(state.items()))}, tmp_path / "clip.pt")
    one, two = build(weights=tmp_path / "clip.safetensors"), build(weights=tmp_path / "clip.pt")
    assert one.fingerprint == two.fingerprint != clip.fingerprint
    assert one.text_fingerprint == two.text_fingerprint != clip.text_fingerprint


def test_a_copy_reads_its_own_weights(clip):
    other = copy.deepcopy(clip)
    other.model.visual.head.proj.weight.data.mul_(torch.rand(clip.embed_dim, 1))
    pooled = torch.randn(1, clip.feature_dim)
    assert not torch.allclose(other.project(pooled), clip.project(pooled))


def test_random_weights_follow_the_seed_and_leave_the_global_state(caplog):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        one, two = build(seed=4), build(seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert "random weights" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_unknown_names_and_weights_are_answered_with_the_closest(tmp_path):
    with pytest.raises(ValueError, match="convnext_large_d_32'. Did you mean 'convnext_large_d_320'"):
        FrozenCLIP.build(name="convnext_large_d_32", weights=None)
    with pytest.raises(ValueError, match="mini_strnog'. Did you mean 'mini_strong'"):
        FrozenCLIP.build(name="mini_strnog")
    with pytest.raises(ValueError, match="opneai.*neither a file nor a pretrained tag. Did you mean 'openai'"):
        FrozenCLIP.build(name=REAL, weights="opneai")
    with pytest.raises(ValueError, match="neither a file nor.*yfcc15m.*possam weights download RN50"):
        FrozenCLIP.build(name=REAL)  # no weights ship with open_clip's models
    with pytest.raises(ValueError, match="missing.safetensors"):
        build(weights=tmp_path / "missing.safetensors")
    with pytest.raises(ValueError, match="input_scale"):
        build(input_scale=0)


def test_weights_are_read_from_safetensors_and_torch_files(clip, tmp_path):
    state = {key: value + 1 for key, value in clip.model.state_dict().items()}
    save_file(state, tmp_path / "clip.safetensors")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "clip.pt")
    for path in ("clip.safetensors", "clip.pt"):
        loaded = build(weights=tmp_path / path).model.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_files_that_are_no_fitting_state_dict_are_refused(clip, tmp_path):
    state = clip.model.state_dict()
    torch.save({**state, "visual.head.proj.weight": torch.zeros(3, 3)}, tmp_path / "shape.pt")
    torch.save({key: value for key, value in state.items() if "ln_final" not in key}, tmp_path / "missing.bin")
    torch.save(clip.model, tmp_path / "pickled.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"not a tensor file")
    for name, message in {
        "shape.pt": "does not fit CLIP model 'mini_weak'.*visual.head.proj.weight",
        "missing.bin": "does not fit.*ln_final",
        "pickled.pt": "cannot read",
        "list.pt": "no state dict",
        "broken.safetensors": "cannot read",
    }.items():
        with pytest.raises(ValueError, match=f"(?s){name}?.*{message}|{message}"):
            build(weights=tmp_path / name)


def test_builds_on_the_meta_device():
    with torch.device("meta"):
        large, mini = build(name="convnext_large_d_320"), build(weights="shipped")
    assert all(tensor.is_meta for model in (large, mini) for tensor in model.state_dict().values())
    assert (large.embed_dim, large.feature_dim, large.stride) == (768, 1536, 32)
