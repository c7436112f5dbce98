"""Class embeddings from frozen CLIP alone: what is left of the classifier without LDP."""

# B images, Q queries, C hidden width, D_v width of CLIP's dense features, D width of CLIP's joint space

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from possam.layers.mask_pooling import mask_pool


class ClipPooling(nn.Module):
    """G = CLIP's own projection of F_clip pooled over the mask, for PosSAM's ablation "without LDP".

    It learns nothing: of the classification only the void embedding and the temperature are trained
    (`CosineClassifier`), and what a query has learnt does not enter. It takes what LDP takes, in LDP's place.

    Args:
        project: …×D_v → …×D, the frozen CLIP's `project`.
    """

    def __init__(self, *, project: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._project = project

    def forward(
        self, queries: Tensor, mask_logits: Tensor, mask_features: Tensor, clip_features: Tensor
    ) -> Tensor:
        """Class embeddings B×Q×D, unit vectors.

        Args:
            queries, mask_features: not used.
            mask_logits: B×Q×h×w float, positive inside the mask; no gradient flows back through them.
            clip_features: B×D_v×H_c×W_c float, F_clip.
        """
        pooled, _ = mask_pool(clip_features, mask_logits)
        return self._project(pooled)
