import pytest
import torch
from torch.nn import functional as F

from possam.decoders import DeformablePixelDecoder, MaskDecoder
from possam.necks import FeaturePyramid
from tests.reference.mask_decoder import decode_masks

C, Q = 16, 5


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return MaskDecoder(channels=C, queries=Q, layers=6, heads=4, feedforward=32)


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    sizes = [(3, 4), (5, 7), (10, 14)]
    return torch.randn(2, C, 20, 28), [torch.randn(2, C, *size) for size in sizes]


def plain_attention(attention, query, key, value, allowed):
    """One query and head at a time, over the allowed positions alone."""
    weights, biases = attention.in_proj.weight.chunk(3), attention.in_proj.bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, key, value), weights, biases, strict=True))
    depth = q.shape[-1] // attention.heads
    mixed = torch.zeros_like(q)
    for row in range(len(q)):
        places = allowed[row].nonzero().squeeze(1)
        for head in range(attention.heads):
            part = slice(head * depth, (head + 1) * depth)
            share = (k[places][:, part] @ q[row, part] / depth**0.5).softmax(0)
            mixed[row, part] = share @ v[places][:, part]
    return attention.out_proj(mixed)


def plain_decoder(decoder, mask_features, scales):
    """Mask2Former's decoder for one image, written out: mask logits of every layer."""
    queries, positions = decoder.query_features.weight, decoder.query_positions.weight
    masks = []
    everywhere = torch.ones(Q, Q, dtype=torch.bool)
    for index in range(len(decoder.layers) + 1):
        logits = torch.einsum("qc,chw->qhw", decoder.mask_head(decoder.norm(queries)), mask_features)
        masks.append(logits)
        if index == len(decoder.layers):
            return torch.stack(masks)
        layer, scale = decoder.layers[index], scales[index % 3]
        resized = F.interpolate(logits[None], size=scale.shape[-2:], mode="bilinear")[0].flatten(1)
        allowed = resized.sigmoid() >= 0.5
        for row in allowed:
            if not row.any():
                row[:] = True
        value = (scale + decoder.level_embedding.weight[index % 3][:, None, None]).flatten(1).T
        key = value + decoder.position(scale[None]).flatten(1).T
        cross, among = layer.cross, layer.self_attention
        queries = cross.norm(queries + plain_attention(cross.attention, queries + positions, key, value, allowed))
        placed = queries + positions
        queries = among.norm(queries + plain_attention(among.attention, placed, placed, queries, everywhere))
        queries = layer.feedforward(queries)


def loss_of(predictions, mask_features):
    """Something that all masks and IoUs take part in."""
    masks = [p.mask_embeddings @ mask_features.flatten(2) for p in predictions]
    return sum(mask.float().square().mean() + p.iou.square().mean() for mask, p in zip(masks, predictions, strict=True))


def test_equals_the_method_written_out(decoder, inputs):
    mask_features, scales = inputs
    with torch.no_grad():
        predictions = decoder(mask_features, scales)
        expected = plain_decoder(decoder, mask_features[1], [x[1] for x in scales])
    for prediction, masks in zip(predictions, expected, strict=True):
        torch.testing.assert_close(prediction.mask_logits[1], masks, atol=1e-4, rtol=1e-4)


def test_equals_the_reference_at_full_width_with_gradients():
    torch.manual_seed(0)
    decoder = MaskDecoder(channels=64, queries=50, layers=9, heads=8, feedforward=128)
    mask_features = torch.randn(2, 64, 32, 48, requires_grad=True)
    scales = [torch.randn(2, 64, *size) for size in ((4, 6), (8, 12), (16, 24))]
    results = []
    for decode in (decoder, lambda *inputs: decode_masks(decoder, *inputs)):
        decoder.zero_grad()
        mask_features.grad = None
        predictions = decode(mask_features, scales)
        loss_of(predictions, mask_features).backward()
        gradients = [mask_features.grad, *(p.grad for p in decoder.parameters())]
        results.append([x.clone() for x in (*(part for p in predictions for part in p), *gradients)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_evaluation_gives_the_final_prediction_of_training(decoder, inputs):
    with torch.no_grad():
        *_, expected = decoder(*inputs)
        (final,) = decoder.eval()(*inputs)
    for part, other in zip(final, expected, strict=True):
        torch.testing.assert_close(part, other, atol=0, rtol=0)


def test_predictions_of_every_layer(decoder, inputs):
    predictions = decoder(*inputs)
    assert len(predictions) == 7
    for prediction in predictions:
        assert prediction.queries.shape == (2, Q, C)
        assert prediction.mask_logits.shape == (2, Q, 20, 28)
        assert prediction.iou.shape == (2, Q) and prediction.iou.dtype == torch.float32
        assert ((prediction.iou > 0) & (prediction.iou < 1)).all()
    # the first is of the learned queries: the same for all images
    torch.testing.assert_close(predictions[0].queries[0], predictions[0].queries[1])
    assert not torch.allclose(predictions[1].queries[0], predictions[1].queries[1], atol=1e-3)


def test_queries_without_a_mask_attend_everywhere(decoder, inputs):
    mask_features, scales = inputs
    with torch.no_grad():
        decoder.mask_head.layers[-1].weight.zero_()
        decoder.mask_head.layers[-1].bias.fill_(-1)
    mask_features = mask_features.abs()  # so that every logit is negative
    predictions = decoder(mask_features, scales)
    assert (predictions[0].mask_logits < 0).all()
    assert all(part.isfinite().all() for prediction in predictions for part in prediction)
    expected = plain_decoder(decoder, mask_features[0], [x[0] for x in scales])
    torch.testing.assert_close(predictions[-1].mask_logits[0], expected[-1], atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_parameter_and_input(decoder, inputs):
    mask_features, scales = inputs
    tensors = [mask_features, *scales]
    for x in tensors:
        x.requires_grad_()
    predictions = decoder(mask_features, scales)
    assert not any(p.mask_logits.requires_grad for p in predictions)
    loss_of(predictions, mask_features).backward()
    for x in (*tensors, *decoder.parameters()):
        assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().sum() > 0


def test_without_an_iou_head_every_mask_is_perfect_and_nothing_else_changes(decoder, inputs):
    torch.manual_seed(0)
    bare = MaskDecoder(channels=C, queries=Q, layers=6, heads=4, feedforward=32, iou_head=False)
    for prediction, expected in zip(bare(*inputs), decoder(*inputs), strict=True):
        torch.testing.assert_close(prediction.mask_logits, expected.mask_logits)
        assert prediction.iou.shape == expected.iou.shape and prediction.iou.dtype == torch.float32
        assert (prediction.iou == 1).all() and not prediction.iou.requires_grad
    missing = {name for name, _ in decoder.named_parameters()} - {name for name, _ in bare.named_parameters()}
    assert missing and all(name.startswith("iou_head.") for name in missing)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(decoder, inputs, dtype):
    expected = decoder(*inputs)[0].mask_logits
    with torch.autocast("cpu", dtype=dtype):
        predictions = decoder(*inputs)
        loss = loss_of(predictions, inputs[0])
    loss.backward()
    assert all(prediction.iou.dtype == torch.float32 for prediction in predictions)
    torch.testing.assert_close(predictions[0].mask_logits.float(), expected, atol=0.05, rtol=0.05)
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


def test_the_miniature_chain():
    torch.manual_seed(0)
    pyramid = FeaturePyramid(in_channels=32, channels=64, in_stride=8)
    pixels = DeformablePixelDecoder(channels=64, layers=3, feedforward=128)
    decoder = MaskDecoder(channels=64, queries=24, layers=3, feedforward=128)
    mask_features, scales = pixels(pyramid(torch.randn(2, 32, 16, 16)))
    assert [tuple(x.shape[-2:]) for x in scales] == [(4, 4), (8, 8), (16, 16)]
    predictions = decoder(mask_features, scales)
    assert len(predictions) == 4 and predictions[-1].mask_logits.shape == (2, 24, 32, 32)


def test_wrong_settings_and_inputs(decoder, inputs):
    mask_features, scales = inputs
    for layers in (0, 4):
        with pytest.raises(ValueError, match=f"multiple of 3.*but got {layers}"):
            MaskDecoder(layers=layers)
    with pytest.raises(ValueError, match="queries=0"):
        MaskDecoder(queries=0)
    with pytest.raises(ValueError, match=r"3 scales .*but got 2"):
        decoder(mask_features, scales[:2])
    with pytest.raises(ValueError, match=r"B×16×h×w, but got .*\(2, 8, 20, 28\)"):
        decoder(mask_features[:, :8], scales)
