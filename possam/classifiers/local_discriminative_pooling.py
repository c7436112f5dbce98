"""Local Discriminative Pooling: what SAM and CLIP see inside a mask, fused into one class embedding.

Shapes: B images, Q queries, C hidden width, M width of the mask features, D_v width of CLIP's dense features,
D width of CLIP's joint space, h×w the masks' and mask features' size, H_c×W_c CLIP's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from possam.layers.mask_pooling import mask_pool
from possam.layers.mlp import MLP

STREAMS = ("sam", "clip")


class LocalDiscriminativePooling(nn.Module):
    """LDP (METHOD.md 1.6, paper Fig. 5).

    Args:
        channels: C, the width of queries.
        clip_channels: D_v.
        embed_dim: D.
        layers: L, how many self-attention layers fuse the streams.
        heads: attention heads; must divide ``channels``.
        mask_channels: M; C where it is not given.
        streams: which features are pooled: "sam" (F_mask), "clip" (F_clip) or both, each a token a mask. One alone
            is PosSAM's ablation of the other.

    Raises:
        ValueError: ``channels`` is not a multiple of ``heads``, there is no layer, or ``streams`` are not some of the
            two, each once.
    """

    def __init__(
        self,
        *,
        channels: int,
        clip_channels: int,
        embed_dim: int,
        layers: int = 2,
        heads: int = 8,
        mask_channels: int | None = None,
        streams: Sequence[str] = STREAMS,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels must be a multiple of heads, got {channels} and {heads}")
        if layers < 1:
            raise ValueError(f"LDP needs at least one self-attention layer, got layers={layers}")
        check_streams(streams)
        self.sam_projection = nn.Linear(mask_channels or channels, channels) if "sam" in streams else None
        self.clip_projection = nn.Linear(clip_channels, channels) if "clip" in streams else None
        self.stream_embedding = nn.Parameter(torch.empty(len(streams), channels))
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
        self.head = MLP(len(streams) * channels, 2 * channels, embed_dim, 2)
        self.query_projection = nn.Linear(channels, embed_dim)
        nn.init.normal_(self.stream_embedding, std=0.02)

    def forward(
        self, queries: Tensor, mask_logits: Tensor, mask_features: Tensor, clip_features: Tensor
    ) -> Tensor:
        """Class embeddings G_ldp, B×Q×D, not normalised.

        Args:
            queries: B×Q×C float.
            mask_logits: B×Q×h×w float, positive inside the mask; no gradient flows back through them.
            mask_features: B×M×h×w float, F_mask.
            clip_features: B×D_v×H_c×W_c float, F_clip.
        """
        tokens = torch.cat(self._streams(mask_logits, mask_features, clip_features), dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        fused = torch.cat(self.norm(tokens).chunk(len(self.stream_embedding), dim=1), dim=-1)
        return self.head(fused) + self.query_projection(queries)

    def _streams(self, mask_logits: Tensor, mask_features: Tensor, clip_features: Tensor) -> list[Tensor]:
        """The tokens of every stream, B×Q×C each."""
        # A mask without a pixel pools to zero: its token is the projection's bias and says "nothing here".
        sources = ((self.sam_projection, mask_features), (self.clip_projection, clip_features))
        tokens = [
            projection(mask_pool(features, mask_logits)[0])
            for projection, features in sources
            if projection is not None
        ]
        return [own + embedding for own, embedding in zip(tokens, self.stream_embedding, strict=True)]


def check_streams(streams: Sequence[str]) -> None:
    """Raises ValueError unless `streams` are one or both of `STREAMS`, each once."""
    if not streams or len(set(streams)) != len(streams) or not set(streams) <= set(STREAMS):
        raise ValueError(f"the streams of LDP must be one or both of {list(STREAMS)}, but got {list(streams)}")
