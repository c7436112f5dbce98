"""Class embeddings from mask features pooled over the mask (FC-CLIP's in-vocabulary head, METHOD.md 4)."""

# L decoder layers, B images, Q queries, C hidden width, M width of the mask features, D width of CLIP's joint space

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from possam.layers.linear import Linear
from possam.layers.mask_pooling import mask_pool, pool_layers
from possam.layers.mlp import MLP


class MaskPooledEmbedding(nn.Module):
    """MLP3(query + Linear(LayerNorm(mean of F_mask inside the mask))).

    Args:
        channels: C.
        embed_dim: D.
        mask_channels: M; C where it is not given.
    """

    def __init__(self, *, channels: int, embed_dim: int, mask_channels: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(mask_channels or channels)
        self.projection = Linear(mask_channels or channels, channels)
        self.mlp = MLP(channels, channels, embed_dim, 3)

    def forward(self, queries: Tensor, mask_logits: Tensor, mask_features: Tensor, clip_features: Tensor) -> Tensor:
        """Class embeddings B×Q×D, not normalized.

        Args:
            queries: B×Q×C float.
            mask_logits: B×Q×h×w float, positive inside the mask; no gradient flows back through them.
            mask_features: B×M×h×w float, F_mask.
            clip_features: not used.
        """
        return self._embed(queries, mask_pool(mask_features, mask_logits)[0])

    def embed_layers(
        self, queries: Sequence[Tensor], mask_logits: Sequence[Tensor], mask_features: Tensor, clip_features: Tensor
    ) -> Tensor:
        """Class embeddings of L layers as `forward` gives them, L×B×Q×D; queries and mask logits are lists of L."""
        return self._embed(torch.stack(list(queries)), pool_layers(mask_features, mask_logits))

    def _embed(self, queries: Tensor, pooled: Tensor) -> Tensor:
        return self.mlp(queries + self.projection(self.norm(pooled)))
