"""The mask decoder as the field computes it: every layer predicts full masks, and resizes them to attend inside.

Attention is PyTorch's own ``nn.MultiheadAttention`` (in its functional form), with a mask repeated for every head, and
returns the attention weights that nobody reads. Written from Mask2Former 3.2, with this project's weights.
"""

# B images, Q queries, C channels, h×w mask features; S positions of one scale

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from possam.decoders import MaskDecoder, MaskPrediction
from possam.layers import MultiheadAttention
from tests.reference.linear import framework_linear


@framework_linear()
def decode_masks(decoder: MaskDecoder, mask_features: Tensor, scales: Sequence[Tensor]) -> list[MaskPrediction]:
    """As `MaskDecoder.forward` in training: the predictions of all layers."""
    batch = mask_features.shape[0]
    values, keys = [], []  # S×B×C
    for x, embedding in zip(scales, decoder.level_embedding.weight, strict=True):
        values.append((x.flatten(2) + embedding[None, :, None]).permute(2, 0, 1))
        keys.append(values[-1] + decoder.position(x).flatten(1).T[:, None])
    positions = decoder.query_positions.weight[:, None].repeat(1, batch, 1)
    queries = decoder.query_features.weight[:, None].repeat(1, batch, 1)
    predictions = [_predict(decoder, queries, mask_features)]
    for index, layer in enumerate(decoder.layers):
        scale = index % len(scales)
        forbidden = _forbidden(predictions[-1].mask_logits, scales[scale].shape[-2:], layer.cross.attention.heads)
        cross, among = layer.cross, layer.self_attention
        seen = _attend(cross.attention, queries + positions, keys[scale], values[scale], forbidden)
        queries = cross.norm(queries + seen)
        placed = queries + positions
        queries = among.norm(queries + _attend(among.attention, placed, placed, queries, None))
        queries = layer.feedforward(queries)
        predictions.append(_predict(decoder, queries, mask_features))
    return predictions


def _predict(decoder: MaskDecoder, queries: Tensor, mask_features: Tensor) -> MaskPrediction:
    read = decoder.norm(queries).transpose(0, 1)
    embeddings = decoder.mask_head(read)
    mask_logits = torch.einsum("bqc,bchw->bqhw", embeddings, mask_features)
    return MaskPrediction(read, embeddings, mask_logits, decoder.iou_head(read))


def _forbidden(mask_logits: Tensor, size: torch.Size, heads: int) -> Tensor:
    """(B·heads)×Q×S bool, True where a query must not look."""
    resized = F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False)
    forbidden = (resized.sigmoid().flatten(2)[:, None].repeat(1, heads, 1, 1).flatten(0, 1) < 0.5).detach()
    forbidden[forbidden.all(-1)] = False
    return forbidden


def _attend(ours: MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, forbidden: Tensor | None) -> Tensor:
    """Q×B×C, S×B×C, S×B×C → Q×B×C."""
    return F.multi_head_attention_forward(
        query,
        key,
        value,
        query.shape[-1],
        ours.heads,
        ours.in_proj.weight,
        ours.in_proj.bias,
        None,
        None,
        False,
        0.0,
        ours.out_proj.weight,
        ours.out_proj.bias,
        attn_mask=forbidden,
    )[0]
