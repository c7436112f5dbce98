"""Local Discriminative Pooling: what SAM and CLIP see inside a mask, fused into one class embedding.

Shapes: B images, Q queries, C hidden width, D_v width of CLIP's dense features, D width of CLIP's joint
space, h×w the masks' and mask features' size, H_c×W_c CLIP's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from possam.layers.mask_pooling import mask_pool
from possam.layers.mlp import MLP


class LocalDiscriminativePooling(nn.Module):
    """LDP (METHOD.md 1.6, paper Fig. 5).

    Args:
        channels: C, the width of queries and mask features.
        clip_channels: D_v.
        embed_dim: D.
        layers: L, how many self-attention layers fuse the two streams.
        heads: attention heads; must divide ``channels``.

    Raises:
        ValueError: ``channels`` is not a multiple of ``heads``, or there is no layer.
    """

    def __init__(
        self, *, channels: int, clip_channels: int, embed_dim: int, layers: int = 2, heads: int = 8
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels must be a multiple of heads, got {channels} and {heads}")
        if layers < 1:
            raise ValueError(f"LDP needs at least one self-attention layer, got layers={layers}")
        self.sam_projection = nn.Linear(channels, channels)
        self.clip_projection = nn.Linear(clip_channels, channels)
        self.stream_embedding = nn.Parameter(torch.empty(2, channels))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels,
                heads,
                dim_feedforward=4 * channels,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.head = MLP(2 * channels, 2 * channels, embed_dim, 2)
        self.query_projection = nn.Linear(channels, embed_dim)
        nn.init.normal_(self.stream_embedding, std=0.02)

    def forward(
        self, queries: Tensor, mask_logits: Tensor, mask_features: Tensor, clip_features: Tensor
    ) -> Tensor:
        """Class embeddings G_ldp, B×Q×D, not normalised.

        Args:
            queries: B×Q×C float.
            mask_logits: B×Q×h×w float, positive inside the mask; no gradient flows back through them.
            mask_features: B×C×h×w float, F_mask.
            clip_features: B×D_v×H_c×W_c float, F_clip.
        """
        # A mask without a pixel pools to zero: its token is the projection's bias and says "nothing here".
        z_sam, _ = mask_pool(mask_features, mask_logits)
        z_clip, _ = mask_pool(clip_features, mask_logits)
        streams = [
            self.sam_projection(z_sam) + self.stream_embedding[0],
            self.clip_projection(z_clip) + self.stream_embedding[1],
        ]
        tokens = torch.cat(streams, dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        sam, clip = self.norm(tokens).chunk(2, dim=1)
        return self.head(torch.cat([sam, clip], dim=-1)) + self.query_projection(queries)
