"""Class embeddings from the decoder's queries, which look at CLIP's dense features (METHOD.md 2.2)."""

# L decoder layers, B images, Q queries, C hidden width, S cells of CLIP's map, D width of CLIP's joint space

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from possam.layers import MLP, CrossAttentionLayer
from possam.layers.linear import Linear


class QueryEmbedding(nn.Module):
    """E_q = MLP3(query + attention from the query to CLIP's cells in CLIP space), residual, post-norm.

    Args:
        channels: C.
        embed_dim: D.
        heads: of the cross-attention.
        cross_attention: False leaves it out, and E_q = MLP3(query) (arXiv:2303.11324, Table 1, rows 4 and 5).
    """

    def __init__(self, *, channels: int, embed_dim: int, heads: int = 8, cross_attention: bool = True) -> None:
        super().__init__()
        # Unit vectors have components of variance 1/D: times √D they are as large as a linear layer expects.
        self.scale = math.sqrt(embed_dim)
        self.projection = Linear(embed_dim, channels) if cross_attention else None
        self.cross = CrossAttentionLayer(channels=channels, heads=heads) if cross_attention else None
        self.mlp = MLP(channels, channels, embed_dim, 3)

    def forward(self, queries: Tensor, cells: Tensor) -> Tensor:
        """Class embeddings B×Q×D, not normalized.

        Args:
            queries: B×Q×C float.
            cells: B×S×D float unit vectors, CLIP's dense features projected to its joint space.
        """
        if self.cross is not None and self.projection is not None:
            keys = self.projection(self.scale * cells)
            queries = self.cross(queries, torch.zeros_like(queries), keys, keys)
        embeddings: Tensor = self.mlp(queries)
        return embeddings

    def embed_layers(self, queries: Sequence[Tensor], cells: Tensor) -> Tensor:
        """Class embeddings of L layers as `forward` gives them, L×B×Q×D, of queries in a list of L."""
        together = self(torch.cat(list(queries), dim=1), cells)  # a query does not see the others
        return together.unflatten(1, (len(queries), -1)).transpose(0, 1)
