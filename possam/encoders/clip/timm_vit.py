"""Dense features of timm's transformer towers: SigLIP and its kind (VisionTransformer), EVA and its kind (Eva)
(METHOD.md 1.5).

Shapes: B images, N pooled vectors, L = H_c·W_c patches, P tokens before the patches, D_v the transformer's width,
D width of CLIP's joint space.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.layers import AttentionPoolLatent, PatchEmbed, RotaryEmbeddingCat, resample_abs_pos_embed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from possam.encoders.clip.tower import DenseTower, register_tower, supported_towers

_POOLS = ("map", "token", "avg")


@register_tower(VisionTransformer, "timm's VisionTransformer (SigLIP)")
@register_tower(Eva, "timm's Eva (EVA02)")
class TimmViTTower(DenseTower):
    """How a patch keeps its own evidence depends on how the tower pools.

    - *map* (SigLIP): one learned query attends to the patches. The value path of that attention — value projection,
      output projection — is linear, so it may follow the mean over a mask; the pool's feed-forward network, which is
      not, comes after the mean. The mask decides where to look, in the query's place. A whole map pooled and
      projected equals the tower with uniform attention.
    - *token*, *avg* (EVA): as in `ViTTower`, in the last block each patch attends to itself alone.
    """

    def __init__(self, visual: nn.Module) -> None:
        assert isinstance(visual, TimmModel)
        trunk = visual.trunk
        assert isinstance(trunk, VisionTransformer | Eva)
        _check(trunk)
        self._visual = visual
        self.stride = int(trunk.patch_embed.patch_size[0])
        self.feature_dim = int(trunk.embed_dim)
        self._pool: str = trunk.global_pool

    def dense(self, images: Tensor) -> Tensor:
        trunk = self._visual.trunk
        patches = trunk.patch_embed.proj(images)
        batch, width, height_cells, width_cells = patches.shape
        grid = (height_cells, width_cells)
        tokens = trunk.norm_pre(self._with_positions(patches))
        rotation = self._rotation(grid)
        options = {} if rotation is None else {"rope": rotation}
        whole = trunk.blocks if self._pool == "map" else trunk.blocks[:-1]
        for block in whole:
            tokens = block(tokens, **options)
        values = tokens[:, trunk.num_prefix_tokens :]
        if self._pool != "map":
            # A patch alone in the last block: attention over one token has weight 1, wherever the token lies.
            values = trunk.blocks[-1](values.reshape(-1, 1, width)).reshape(batch, -1, width)
        if self._pool != "token":  # these pools average normalized patches
            values = trunk.norm(values)
        return values.transpose(1, 2).reshape(batch, width, *grid)

    def project(self, pooled: Tensor) -> Tensor:
        trunk = self._visual.trunk
        if self._pool == "map":
            pooled = _attended(trunk.attn_pool, pooled)
        elif self._pool == "token":
            pooled = trunk.norm(pooled)
        return self._visual.head(trunk.head(trunk.fc_norm(pooled)))

    def _with_positions(self, patches: Tensor) -> Tensor:
        """B×D_v×H_c×W_c patches → B×(P+L)×D_v tokens with the absolute positions, resized bicubically to the grid."""
        trunk = self._visual.trunk
        grid = list(patches.shape[-2:])
        tokens = trunk.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        learned = [token for token in (trunk.cls_token, trunk.reg_token) if token is not None]
        extra = [token.expand(tokens.shape[0], -1, -1) for token in learned]
        if trunk.pos_embed is None:
            return torch.cat([*extra, tokens], dim=1)
        placed = 0 if trunk.no_embed_class else trunk.num_prefix_tokens
        positions = resample_abs_pos_embed(
            trunk.pos_embed, grid, old_size=list(trunk.patch_embed.grid_size), num_prefix_tokens=placed
        )
        if trunk.no_embed_class:
            return torch.cat([*extra, tokens + positions], dim=1)
        return torch.cat([*extra, tokens], dim=1) + positions

    def _rotation(self, grid: tuple[int, int]) -> Tensor | None:
        """Rotary positions of the grid; None for a tower without. EVA spreads the grid it was trained on over any."""
        rope = getattr(self._visual.trunk, "rope", None)
        if rope is None:
            return None
        if rope.feat_shape is None:
            return rope.get_embed(shape=list(grid))
        if tuple(rope.feat_shape) != grid:
            rope = copy.copy(rope)  # the tower itself stays as it was loaded
            rope._buffers = dict(rope._buffers)
            rope.update_feat_shape(list(grid))
        return rope.get_embed()


def _attended(pool: AttentionPoolLatent, values: Tensor) -> Tensor:
    """N×D_v means over patches → N×D_v: what timm's AttentionPoolLatent makes of them, its attention aside."""
    width = pool.kv.out_features // 2
    bias = None if pool.kv.bias is None else pool.kv.bias[width:]
    attended = pool.proj(F.linear(values, pool.kv.weight[width:], bias))
    return attended if pool.mlp is None else attended + pool.mlp(pool.norm(attended))


def _check(trunk: VisionTransformer | Eva) -> None:
    """Raise ValueError for what cannot be made dense, or is not known to any supported model."""
    embed, rope = trunk.patch_embed, getattr(trunk, "rope", None)
    problem = ""
    if trunk.global_pool not in _POOLS:
        problem = (
            f"must pool by {', '.join(_POOLS[:-1])} or {_POOLS[-1]} to be pooled over masks, but this one has "
            f"global_pool={trunk.global_pool!r}"
        )
    elif not isinstance(embed, PatchEmbed) or embed.patch_size[0] != embed.patch_size[1]:
        problem = (
            "must cut the image into square patches by one convolution (PatchEmbed), but this one has "
            f"{type(embed).__name__}"
        )
    elif rope is not None and not isinstance(rope, RotaryEmbeddingCat):
        problem = f"cannot have rotary positions of type {type(rope).__name__}, only {RotaryEmbeddingCat.__name__}"
    elif trunk.global_pool == "map" and trunk.attn_pool.pos_embed is not None:
        problem = "cannot have an attention pool with positions of its own, whose size is fixed"
    if problem:
        raise ValueError(
            f"a tower over timm's {type(trunk).__name__} {problem}; supported image towers: {supported_towers()}"
        )
