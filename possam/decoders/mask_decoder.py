"""Mask decoder: queries that look inside their own masks, and estimate how good these are."""

# B images, Q queries, C channels, h×w mask features; S positions of one scale

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from possam.layers import (
    MLP,
    CrossAttentionLayer,
    FeedForwardLayer,
    PositionEmbeddingSine,
    SelfAttentionLayer,
)
from possam.layers.attention import attend_inside

from .iou_head import build_iou_head
from .mask_prediction import MaskPrediction, predict_masks

SCALES = 3


class MaskDecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward; in this order (Mask2Former 3.2.2)."""

    def __init__(self, *, channels: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.cross = CrossAttentionLayer(channels=channels, heads=heads)
        self.self_attention = SelfAttentionLayer(channels=channels, heads=heads)
        self.feedforward = FeedForwardLayer(channels=channels, hidden=feedforward)

    def forward(self, queries: Tensor, positions: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
        """Queries B×Q×C, positions 1×Q×C, keys and values B×S×C, allowed B×Q×S bool → B×Q×C."""
        queries = self.cross(queries, positions, keys, values, allowed)
        return self.feedforward(self.self_attention(queries, positions))


class MaskDecoder(nn.Module):
    """Mask2Former's transformer decoder without classes, with an IoU head (METHOD.md 1.3, 1.4).

    ``layers`` counts single layers, and is a multiple of the three scales that they visit in turn. Without
    ``iou_head`` nothing estimates the masks' quality, and every IoU is 1. ``mask_channels`` is the width of the mask
    features.
    """

    def __init__(
        self,
        *,
        channels: int = 256,
        queries: int = 250,
        layers: int = 9,
        heads: int = 8,
        feedforward: int = 2048,
        iou_head: bool = True,
        iou_head_layers: int = 3,
    ) -> None:
        super().__init__()
        if layers < SCALES or layers % SCALES:
            raise ValueError(
                f"layers must be a positive multiple of {SCALES}, one for each of the strides 32, 16 and 8 "
                f"in every round, but got {layers}"
            )
        if queries < 1:
            raise ValueError(f"the mask decoder needs at least one query, but got queries={queries}")
        self.channels = self.mask_channels = channels
        self.query_features = nn.Embedding(queries, channels)
        self.query_positions = nn.Embedding(queries, channels)
        self.level_embedding = nn.Embedding(SCALES, channels)
        self.position = PositionEmbeddingSine(channels)
        self.layers = nn.ModuleList(
            MaskDecoderLayer(channels=channels, heads=heads, feedforward=feedforward) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.mask_head = MLP(channels, channels, channels, 3)
        self.iou_head = build_iou_head(channels, iou_head, iou_head_layers)

    def forward(self, mask_features: Tensor, scales: Sequence[Tensor]) -> list[MaskPrediction]:
        """Decodes masks.

        Args:
            mask_features: B×C×h×w, stride 4.
            scales: maps of strides 32, 16 and 8, B×C×?×? each.

        Returns:
            In training ``layers`` + 1 predictions: of the learned queries, then after every layer, the final one last.
            In evaluation the final one alone.

        Raises:
            ValueError: for another number of scales or channels.
        """
        self._validate(mask_features, scales)
        values = [
            x.flatten(2).transpose(1, 2) + embedding
            for x, embedding in zip(scales, self.level_embedding.weight, strict=True)
        ]
        keys = [value + self.position(x).flatten(1).transpose(0, 1) for value, x in zip(values, scales, strict=True)]
        # Attention asks for masks resized to a scale. Resizing is linear, so that of the features serves all layers.
        resized = [
            F.interpolate(mask_features.detach(), size=x.shape[-2:], mode="bilinear", align_corners=False).flatten(2)
            for x in scales
        ]
        positions = self.query_positions.weight[None]
        queries = self.query_features.weight.expand(mask_features.shape[0], -1, -1)
        reads, embeddings = [], []  # of the layers to predict from
        for index, layer in enumerate(self.layers):
            scale = index % SCALES
            read = self.norm(queries)
            embedding = self.mask_head(read)
            if self.training:
                reads.append(read)
                embeddings.append(embedding)
            allowed = attend_inside(embedding.detach() @ resized[scale])
            queries = layer(queries, positions, keys[scale], values[scale], allowed)
        reads.append(self.norm(queries))
        embeddings.append(self.mask_head(reads[-1]))
        masks = predict_masks(embeddings, mask_features)
        return [MaskPrediction(*each, self.iou_head(each[0])) for each in zip(reads, embeddings, masks, strict=True)]

    def _validate(self, mask_features: Tensor, scales: Sequence[Tensor]) -> None:
        if len(scales) != SCALES:
            raise ValueError(f"expected {SCALES} scales (strides 32, 16, 8), but got {len(scales)}")
        shapes = [tuple(x.shape) for x in (mask_features, *scales)]
        if any(len(shape) != 4 or shape[1] != self.channels for shape in shapes):
            raise ValueError(f"expected mask features and scales B×{self.channels}×h×w, but got {shapes}")
