"""Dense features of a VisionTransformer tower (METHOD.md 1.5).

Shapes: B images, N pooled vectors, L = H_c·W_c patches, D_v the transformer's width, D width of CLIP's joint space.
"""

from __future__ import annotations

import torch
from open_clip.transformer import VisionTransformer
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from possam.encoders.clip.tower import DenseTower, register_tower


@register_tower(VisionTransformer, "VisionTransformer")
class ViTTower(DenseTower):
    """All blocks but the last as they are; in the last each patch attends to itself alone (its value path).

    Attention over one token has weight 1, so a patch on its own in the last block gives exactly value projection →
    output projection → residual → feed-forward: the patch's evidence is not mixed with the rest of the image.
    """

    def __init__(self, visual: nn.Module) -> None:
        assert isinstance(visual, VisionTransformer)
        if visual.attn_pool is not None or visual.pool_type not in ("tok", "avg"):
            raise ValueError(
                "a VisionTransformer tower must pool by its class token or by the mean of its patches to be pooled "
                f"over masks, but this one has pool_type={visual.pool_type!r} and "
                f"attentional pooling {'on' if visual.attn_pool is not None else 'off'}"
            )
        patch_height, patch_width = visual.patch_size
        if patch_height != patch_width:
            raise ValueError(f"a VisionTransformer tower must have square patches, but got {visual.patch_size}")
        self._visual = visual
        self.stride = int(patch_height)
        self.feature_dim = int(visual.conv1.out_channels)
        # A tower that averages normalized patches needs the norm before the mask's average as well.
        self._norm_before_pool = visual.pool_type == "avg" and not visual.final_ln_after_pool

    def dense(self, images: Tensor) -> Tensor:
        visual = self._visual
        patches = visual.conv1(images)
        batch, width, height_cells, width_cells = patches.shape
        tokens = torch.cat(
            [visual.class_embedding.to(patches.dtype).expand(batch, 1, -1), patches.flatten(2).transpose(1, 2)], dim=1
        )
        tokens = visual.ln_pre(tokens + self._positions(height_cells, width_cells).to(tokens.dtype))
        for block in visual.transformer.resblocks[:-1]:
            tokens = block(tokens)
        alone = tokens[:, 1:].reshape(-1, 1, width)
        values = visual.transformer.resblocks[-1](alone).reshape(batch, height_cells, width_cells, width)
        if self._norm_before_pool:
            values = visual.ln_post(values)
        return values.permute(0, 3, 1, 2).contiguous()

    def project(self, pooled: Tensor) -> Tensor:
        visual = self._visual
        return (pooled if self._norm_before_pool else visual.ln_post(pooled)) @ visual.proj

    def _positions(self, height_cells: int, width_cells: int) -> Tensor:
        """(1+L)×D_v: the class token's position as it is, the patches' grid resized bicubically to the input's."""
        visual = self._visual
        # The same resize open_clip uses when it loads weights of another native size.
        return resample_abs_pos_embed(
            visual.positional_embedding[None], [height_cells, width_cells], old_size=list(visual.grid_size)
        )[0]
