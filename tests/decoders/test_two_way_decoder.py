"""SAM's two-way decoder with learned queries: equal to SAM's own where it is SAM's own."""

import pytest
import torch
from segment_anything.modeling import MaskDecoder as SAMMaskDecoder
from segment_anything.modeling import TwoWayTransformer

from possam.decoders import TwoWayDecoder

C, Q = 16, 5


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return TwoWayDecoder(in_channels=C, channels=C, queries=Q, layers=2, heads=2, feedforward=32)


def test_equals_sams_own_decoder_on_the_same_weights(decoder):
    """SAM's output tokens are one for the IoU and four for masks; all four get the same MLP here."""
    transformer = TwoWayTransformer(depth=2, embedding_dim=C, num_heads=2, mlp_dim=32)
    sam = SAMMaskDecoder(transformer_dim=C, transformer=transformer, iou_head_hidden_dim=C)
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    decoder.transformer.load_state_dict(transformer.state_dict())
    decoder.upscaling.load_state_dict(sam.output_upscaling.state_dict())
    decoder.query_features.weight.data = torch.cat([sam.iou_token.weight, sam.mask_tokens.weight]).detach()
    for mlp in sam.output_hypernetworks_mlps:
        mlp.load_state_dict(decoder.mask_head.state_dict())
    image = torch.randn(1, C, 6, 9)
    with torch.no_grad():
        masks, _ = sam.predict_masks(
            image_embeddings=image,
            image_pe=decoder.position((6, 9))[None],
            sparse_prompt_embeddings=torch.zeros(1, 0, C),
            dense_prompt_embeddings=torch.zeros(1, C, 6, 9),
        )
        (prediction,), _ = decoder(image)
    torch.testing.assert_close(prediction.mask_logits[:, 1:], masks, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("stride", "channels"), [(32, 2), (16, 2), (8, 4)])
def test_masks_are_at_stride_4(stride, channels):
    decoder = TwoWayDecoder(in_channels=7, in_stride=stride, channels=C, queries=Q, heads=2, feedforward=32)
    (prediction,), mask_features = decoder(torch.randn(2, 7, 96 // stride, 128 // stride))
    assert decoder.mask_channels == (channels if stride != 32 else 1)
    assert mask_features.shape == (2, decoder.mask_channels, 24, 32) and mask_features.is_contiguous()
    assert prediction.mask_logits.shape == (2, Q, 24, 32)
    assert prediction.queries.shape == (2, Q, C)
    assert prediction.iou.shape == (2, Q) and ((prediction.iou > 0) & (prediction.iou < 1)).all()


def test_the_published_size_is_sams():
    decoder = TwoWayDecoder(in_channels=256)
    assert isinstance(decoder.input_projection, torch.nn.Identity)
    assert decoder.mask_channels == 32 and decoder.query_features.weight.shape == (250, 256)
    assert sum(p.numel() for p in decoder.transformer.parameters()) == sum(
        p.numel()
        for p in TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048).parameters()
    )


def test_gradients_reach_every_parameter(decoder):
    (prediction,), mask_features = decoder(torch.randn(2, C, 4, 4))
    masks = prediction.mask_embeddings @ mask_features.flatten(2)
    torch.testing.assert_close(masks, prediction.mask_logits.flatten(2))
    (masks.square().mean() + prediction.iou.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_images_of_a_batch_do_not_mix_and_places_matter(decoder):
    image = torch.randn(2, C, 4, 6)
    with torch.no_grad():
        (both,), _ = decoder(image)
        (alone,), _ = decoder(image[1:])
        (turned,), _ = decoder(image.flip(-1))
    torch.testing.assert_close(both.mask_logits[1:], alone.mask_logits, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(both.mask_logits.flip(-1), turned.mask_logits, atol=1e-3)


def test_autocast_keeps_positions_exact(decoder):
    image = torch.randn(1, C, 40, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        positions = decoder._positions(image)
        (prediction,), _ = decoder(image)
    assert positions.dtype == torch.float32 and prediction.iou.dtype == torch.float32
    torch.testing.assert_close(positions[0], decoder.position((40, 40)))


def test_without_an_iou_head_every_mask_is_perfect():
    decoder = TwoWayDecoder(in_channels=C, channels=C, queries=Q, heads=2, feedforward=32, iou_head=False)
    (prediction,), _ = decoder(torch.randn(1, C, 4, 4))
    assert (prediction.iou == 1).all() and not prediction.iou.requires_grad
    assert not any("iou_head" in name for name, _ in decoder.named_parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_stride": 4}, "stride 8, 16 or 32, but got in_stride=4"),
        ({"in_stride": 14}, "in_stride=14"),
        ({"queries": 0}, "queries=0"),
        ({"layers": 0}, "layers=0"),
        ({"channels": 24, "heads": 8}, "divisible by 16"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TwoWayDecoder(**{"in_channels": C, "channels": C, "heads": 2} | change)


def test_a_wrong_input_is_named(decoder):
    with pytest.raises(ValueError, match=r"B×16×h×w features, but got shape \(1, 8, 4, 4\)"):
        decoder(torch.zeros(1, 8, 4, 4))
