"""Class embeddings from pooled CLIP features alone: what is left of the classifier without LDP."""

# L decoder layers, B images, Q queries, C hidden width, D_v width of CLIP's dense features, D width of its joint space

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from possam.layers.linear import Linear
from possam.layers.mask_pooling import pool_layers


class ClipPooling(nn.Module):
    """G = CLIP's own projection of F_clip pooled over the mask, plus the query's own, for the ablation "no LDP".

    LDP's two streams and their fusion are gone; the query's projection stays (METHOD.md 1.6), for a pooled
    feature cannot say "no object": two queries on one segment pool the same. Without it the panoptic quality of the
    miniature world, half-way through its training, is 35 and not 59: that would not measure LDP. It starts at zero, so
    that the classifier starts as CLIP itself and training adds to it. It takes what LDP takes, in LDP's place.

    Args:
        project: …×D_v → …×D unit vectors, the frozen CLIP's `project`.
        channels: C.
        embed_dim: D.
    """

    def __init__(self, *, project: Callable[[Tensor], Tensor], channels: int, embed_dim: int) -> None:
        super().__init__()
        self._project = project
        self.query_projection = Linear(channels, embed_dim)
        nn.init.zeros_(self.query_projection.weight)
        nn.init.zeros_(self.query_projection.bias)

    def forward(
        self, queries: Tensor, mask_logits: Tensor, mask_features: Tensor, clip_features: Tensor
    ) -> Tensor:
        """Class embeddings B×Q×D, not normalized.

        Args:
            queries: B×Q×C float.
            mask_logits: B×Q×h×w float, positive inside the mask; no gradient flows back through them.
            mask_features: not used.
            clip_features: B×D_v×H_c×W_c float, F_clip.
        """
        return self.embed_layers([queries], [mask_logits], mask_features, clip_features)[0]

    def embed_layers(
        self, queries: Sequence[Tensor], mask_logits: Sequence[Tensor], mask_features: Tensor, clip_features: Tensor
    ) -> Tensor:
        """Class embeddings of L layers as `forward` gives them, L×B×Q×D; queries and mask logits are lists of L."""
        pooled = pool_layers(clip_features, mask_logits)
        return self._project(pooled) + self.query_projection(torch.stack(list(queries)))
