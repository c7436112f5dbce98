import pytest
import torch
from torch.nn import functional as F

from possam.decoders import DeformablePixelDecoder, pixel_decoder
from tests.reference.deformable_attention import decode_pixels


def make_pyramid(height, width, channels=16, batch=2):
    return {
        stride: torch.randn(batch, channels, -(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)
    }


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return DeformablePixelDecoder(channels=16, layers=2, heads=4, points=2, feedforward=32)


def plain_decoder(decoder, pyramid):
    """The method written out, one level and place at a time."""
    maps = [project(pyramid[stride]) for stride, project in zip((32, 16, 8), decoder.input_projections, strict=True)]
    tokens, positions, reference = [], [], []
    for level, x in enumerate(maps):
        height, width = x.shape[-2:]
        for row in range(height):
            for column in range(width):
                tokens.append(x[:, :, row, column])
                positions.append(decoder.position(x)[:, row, column] + decoder.level_embedding.weight[level])
                reference.append([(column + 0.5) / width, (row + 0.5) / height])
    tokens, positions = torch.stack(tokens, 1), torch.stack(positions)
    sizes = [tuple(x.shape[-2:]) for x in maps]
    for layer in decoder.layers:
        mixed = layer.attention(tokens + positions, torch.tensor(reference), tokens, sizes)
        tokens = layer.norm1(tokens + mixed)
        tokens = layer.norm2(tokens + layer.linear2(layer.linear1(tokens).clamp(min=0)))
    scales, start = [], 0
    for x in maps:
        count = x[0, 0].numel()
        scales.append(tokens[:, start : start + count].transpose(1, 2).reshape(x.shape))
        start += count
    resized = F.interpolate(scales[2], size=pyramid[4].shape[-2:], mode="bilinear")
    return decoder.mask_features(decoder.smooth(decoder.lateral(pyramid[4]) + resized)), scales


def test_equals_the_method_written_out(decoder, monkeypatch):
    monkeypatch.setattr(pixel_decoder, "_POSITIONS", 100)  # of 315
    parts = []
    decoder.layers[0].linear1.register_forward_hook(lambda _layer, inputs, _output: parts.append(inputs[0].shape[1]))
    pyramid = make_pyramid(96, 160)
    with torch.no_grad():
        mask_features, scales = decoder(pyramid)
        assert parts == [100, 100, 100, 15]
        expected, expected_scales = plain_decoder(decoder, pyramid)
    torch.testing.assert_close(mask_features, expected, atol=1e-5, rtol=1e-4)
    for scale, plain in zip(scales, expected_scales, strict=True):
        torch.testing.assert_close(scale, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(96, 160), (100, 76), (32, 32)])
def test_equals_the_reference_with_gradients(decoder, size):
    for layer in decoder.layers:
        torch.nn.init.normal_(layer.attention.sampling_offsets.weight, std=0.5)
        torch.nn.init.normal_(layer.attention.attention_weights.weight)
    pyramid = make_pyramid(*size)
    results = []
    for decode in (decoder, lambda inputs: decode_pixels(decoder, inputs)):
        decoder.zero_grad()
        features, scales = decode(pyramid)
        features.square().mean().backward()
        results.append([x.detach() for x in (features, *scales)] + [p.grad.clone() for p in decoder.parameters()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (100, 76), (32, 32)])
def test_shapes(decoder, size):
    pyramid = make_pyramid(*size)
    mask_features, scales = decoder(pyramid)
    assert mask_features.shape == pyramid[4].shape and mask_features.is_contiguous()
    assert [x.shape for x in scales] == [pyramid[stride].shape for stride in (32, 16, 8)]


def test_scales_keep_their_places(decoder):
    """A change at one place of one scale is felt there first, in the scale of the same size and in others."""
    pyramid = make_pyramid(256, 256, batch=1)
    with torch.no_grad():
        before = decoder(pyramid)[1]
        changed = {stride: x.clone() for stride, x in pyramid.items()}
        changed[8][0, :, 4, 29] += 3 * torch.randn(16)
        after = decoder(changed)[1]
    for scale, ratio in zip((2, 1, 0), (1, 2, 4), strict=True):
        difference = (after[scale] - before[scale]).square().sum(1)[0]
        row, column = divmod(difference.argmax().item(), difference.shape[1])
        assert abs(row - 4 // ratio) <= 2 and abs(column - 29 // ratio) <= 2


def test_images_do_not_mix(decoder):
    pyramid = make_pyramid(64, 64)
    mask_features, scales = decoder(pyramid)
    alone, alone_scales = decoder({stride: x[1:] for stride, x in pyramid.items()})
    torch.testing.assert_close(mask_features[1:], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scales[0][1:], alone_scales[0], atol=1e-5, rtol=1e-4)


def test_mask_features_come_from_stride_4_and_the_mixed_stride_8(decoder):
    pyramid = {stride: x.requires_grad_() for stride, x in make_pyramid(64, 64).items()}
    mask_features, _ = decoder(pyramid)
    (mask_features * torch.randn_like(mask_features)).sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in pyramid.values())
    assert all(p.grad is not None for p in decoder.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(decoder, dtype):
    pyramid = make_pyramid(64, 96)
    expected, expected_scales = decoder(pyramid)
    with torch.autocast("cpu", dtype=dtype):
        mask_features, scales = decoder(pyramid)
        mask_features.float().square().mean().backward()
    assert (mask_features - expected).abs().mean() < 0.02 * expected.abs().mean()
    assert (scales[2] - expected_scales[2]).abs().mean() < 0.02 * expected_scales[2].abs().mean()
    assert all(p.grad is None or p.grad.isfinite().all() for p in decoder.parameters())


def test_odd_numbers_of_channels_find_their_groups():
    decoder = DeformablePixelDecoder(channels=48, layers=1, heads=4, feedforward=32)
    assert decoder.lateral[1].num_groups == 16
    assert decoder(make_pyramid(64, 64, channels=48))[0].shape == (2, 48, 16, 16)


def test_wrong_pyramids_are_named(decoder):
    pyramid = make_pyramid(64, 64)
    with pytest.raises(ValueError, match=r"strides 4, 8, 16 and 32, but got \[4, 8, 16\]"):
        decoder({stride: pyramid[stride] for stride in (4, 8, 16)})
    with pytest.raises(ValueError, match=r"stride 8 as B×16×h×w, but got shape \(2, 3, 8, 8\)"):
        decoder({**pyramid, 8: torch.zeros(2, 3, 8, 8)})
    with pytest.raises(ValueError, match="layers=0"):
        DeformablePixelDecoder(layers=0)
