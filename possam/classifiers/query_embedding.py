"""Class embeddings from the decoder's queries, which may attend to CLIP's dense features (METHOD.md 2.2)."""

# L decoder layers, B images, Q queries, C hidden width, h×w cells of CLIP's map, D width of CLIP's joint space

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from possam.layers import MLP, CrossAttentionLayer
from possam.layers.attention import attend_inside
from possam.layers.linear import Linear


class QueryEmbedding(nn.Module):
    """E_q = MLP3(query + attention from the query to CLIP's cells in CLIP space), residual, post-norm.

    A query attends to the cells inside its mask, as in Mask2Former; one without a cell to all of them.

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

    def forward(self, queries: Tensor, mask_logits: Tensor, cells: Tensor) -> Tensor:
        """Class embeddings B×Q×D, not normalized.

        Args:
            queries: B×Q×C float.
            mask_logits: of their masks, B×Q×H×W float, without gradients.
            cells: B×h×w×D float unit vectors, CLIP's dense features projected to its joint space.
        """
        return self.embed_layers([queries], [mask_logits], cells)[0]

    def embed_layers(self, queries: Sequence[Tensor], mask_logits: Sequence[Tensor], cells: Tensor) -> Tensor:
        """Class embeddings of L layers as `forward` gives them, L×B×Q×D, of queries and masks in lists of L."""
        together = torch.cat(list(queries), dim=1)  # a query does not see the others
        if self.cross is not None and self.projection is not None:
            keys = self.projection(self.scale * cells).flatten(1, 2)
            allowed = torch.cat([_cells_inside(logits, cells.shape[1:3]) for logits in mask_logits], dim=1)
            together = self.cross(together, torch.zeros_like(together), keys, keys, allowed)
        together = self.mlp(together)
        return together.unflatten(1, (len(queries), -1)).transpose(0, 1)


class QueryOnlyEmbedding(nn.Module):
    """G = MLP3(query), for the ablation "query alone": nothing is pooled inside the mask.

    It takes what LDP takes, in LDP's place.

    Args:
        channels: C.
        embed_dim: D.
    """

    def __init__(self, *, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.mlp = MLP(channels, channels, embed_dim, 3)

    def forward(self, queries: Tensor, mask_logits: Tensor, mask_features: Tensor, clip_features: Tensor) -> Tensor:
        """Class embeddings B×Q×D, not normalized, of queries B×Q×C float; nothing else is used."""
        embeddings: Tensor = self.mlp(queries)
        return embeddings

    def embed_layers(
        self, queries: Sequence[Tensor], mask_logits: Sequence[Tensor], mask_features: Tensor, clip_features: Tensor
    ) -> Tensor:
        """Class embeddings of L layers as `forward` gives them, L×B×Q×D; queries is a list of L."""
        embeddings: Tensor = self.mlp(torch.stack(list(queries)))
        return embeddings


def _cells_inside(mask_logits: Tensor, size: torch.Size) -> Tensor:
    """Masks B×Q×H×W at (h, w) cells: B×Q×hw bool, all True for a mask without a cell."""
    return attend_inside(F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False).flatten(2))
