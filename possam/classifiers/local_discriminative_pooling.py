"""Local Discriminative Pooling: what SAM and CLIP see inside a mask, fused into one class embedding.

Shapes: L decoder layers, B images, Q queries, C hidden width, M width of the mask features, D_v width of CLIP's dense
features, D width of CLIP's joint space, h×w the masks' and mask features' size, H_c×W_c CLIP's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from possam.layers.linear import Linear
from possam.layers.mask_pooling import mask_pool, pool_layers
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
            is the ablation of the other (METHOD.md 1.11).

    Raises:
        ValueError: ``channels`` is not a multiple of ``heads``, there is no layer, or ``streams`` are not some of the
            two, each once.
    """

    embedding_parameters = ("stream_embedding",)  # see possam.engine.optimizer

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
        self.sam_projection = Linear(mask_channels or channels, channels) if "sam" in streams else None
        self.clip_projection = Linear(clip_channels, channels) if "clip" in streams else None
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
        self.query_projection = Linear(channels, embed_dim)
        nn.init.normal_(self.stream_embedding, std=0.02)

    def forward(
        self, queries: Tensor, mask_logits: Tensor, mask_features: Tensor, clip_features: Tensor
    ) -> Tensor:
        """Class embeddings G_ldp, B×Q×D, not normalized.

        Args:
            queries: B×Q×C float.
            mask_logits: B×Q×h×w float, positive inside the mask; no gradient flows back through them.
            mask_features: B×M×h×w float, F_mask.
            clip_features: B×D_v×H_c×W_c float, F_clip.
        """
        sources = self._sources(mask_features, clip_features)
        return self._fuse(queries, [mask_pool(features, mask_logits)[0] for features in sources])

    def embed_layers(
        self, queries: Sequence[Tensor], mask_logits: Sequence[Tensor], mask_features: Tensor, clip_features: Tensor
    ) -> Tensor:
        """What `forward` gives for each of L layers of one batch, L×B×Q×D, at once and in less memory: for training.

        Args:
            queries: of every layer, B×Q×C.
            mask_logits: of every layer, B×Q×h×w.
            mask_features, clip_features: as in `forward`, shared by the layers.
        """
        sources = self._sources(mask_features, clip_features)
        pooled = [pool_layers(features, mask_logits).flatten(0, 1) for features in sources]
        return self._fuse(torch.cat(list(queries)), pooled).unflatten(0, (len(queries), -1))

    def _sources(self, mask_features: Tensor, clip_features: Tensor) -> list[Tensor]:
        sources = ((self.sam_projection, mask_features), (self.clip_projection, clip_features))
        return [features for projection, features in sources if projection is not None]

    def _fuse(self, queries: Tensor, pooled: list[Tensor]) -> Tensor:
        """Embeddings of queries B×Q×C and what each stream pooled for them, B×Q×(M or D_v)."""
        # A mask without a pixel pools to zero: its token is the projection's bias and says "nothing here".
        projections = [layer for layer in (self.sam_projection, self.clip_projection) if layer is not None]
        tokens = torch.cat(
            [
                projection(values) + embedding
                for projection, values, embedding in zip(projections, pooled, self.stream_embedding, strict=True)
            ],
            dim=1,
        )
        for layer in self.layers:
            tokens = layer(tokens)
        fused = torch.cat(self.norm(tokens).chunk(len(pooled), dim=1), dim=-1)
        return self.head(fused) + self.query_projection(queries)


def check_streams(streams: Sequence[str]) -> None:
    """Raises ValueError unless `streams` are one or both of `STREAMS`, each once."""
    if not streams or len(set(streams)) != len(streams) or not set(streams) <= set(STREAMS):
        raise ValueError(f"the streams of LDP must be one or both of {list(STREAMS)}, but got {list(streams)}")
