"""SAM's transformer blocks without their tokens × tokens matrices: the result is `segment_anything`'s.

The parameters stay where they are, in `segment_anything`'s `Block`; only the way through them is this file's.

Shape legend: B images, H×W patches, C width, N heads, D = C/N; a window has h×w patches, S = h·w, and is the whole
image in a global block; G sequences, one for each image, window and head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from possam.encoders.linear import linear, runs_eagerly_on_cpu

if TYPE_CHECKING:
    from segment_anything.modeling.image_encoder import Attention, Block

__all__ = ["attend", "resize_relative_positions", "run_block"]

# On a CPU, so much at a time that it stays in the cache, and that its memory is used again and again.
_TOKENS = 1024  # of the feed-forward network
_SCORES = 1 << 21  # of attention


def run_block(block: Block, x: Tensor, dtype: torch.dtype) -> Tensor:
    """One block, B×H×W×C float32 → the same tensor, changed in place. Matrix products are in `dtype`."""
    seen = _attention(block.attn, _norm(block.norm1, x, dtype), block.window_size)
    x += linear(seen, block.attn.proj.weight, block.attn.proj.bias)
    for tokens in x.view(-1, x.shape[-1]).split(_TOKENS) if runs_eagerly_on_cpu(x) else (x,):
        y = _norm(block.norm2, tokens, dtype)
        hidden = linear(y, block.mlp.lin1.weight, block.mlp.lin1.bias, gelu=True)
        tokens += linear(hidden, block.mlp.lin2.weight, block.mlp.lin2.bias)
    return x


def _norm(norm: nn.LayerNorm, x: Tensor, dtype: torch.dtype) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps).to(dtype)


def _attention(attention: Attention, x: Tensor, window: int) -> Tensor:
    """B×H×W×C → B×H×W×C before the output projection; `window` is a side in patches, 0 for global attention."""
    height, width = x.shape[1:3]
    size = (window, window) if window else (height, width)
    tables = [
        _relative_table(positions, side).to(x.dtype)
        for positions, side in zip((attention.rel_pos_h, attention.rel_pos_w), size, strict=True)
    ]
    qkv = linear(x, attention.qkv.weight, attention.qkv.bias)
    bias = attention.qkv.bias.to(x.dtype)

    def over(part: Tensor) -> Tensor:
        q, k, v = _to_windows(part, bias, size, attention.num_heads)
        return _from_windows(attend(q, k, v, *tables), part.shape[:3], size, attention.num_heads)

    if not runs_eagerly_on_cpu(x):
        return over(qkv)
    seen = torch.empty_like(x)
    for image, target in zip(qkv.split(1), seen.split(1), strict=True):
        for row, place in zip(image.split(size[0], dim=1), target.split(size[0], dim=1), strict=True):
            place.copy_(over(row))
    return seen


def _to_windows(qkv: Tensor, bias: Tensor, size: tuple[int, int], heads: int) -> Tensor:
    """B×H×W×3C → 3×G×S×D.

    Windows at the right and lower edge reach beyond the image. `segment_anything` pads with zeros there before the
    projection to queries, keys and values, which makes them the projection's bias.
    """
    batch, height, width, channels = qkv.shape
    rows, columns = (-(-side // step) for side, step in zip((height, width), size, strict=True))
    if (rows * size[0], columns * size[1]) != (height, width):
        padded = bias.repeat(batch, rows * size[0], columns * size[1], 1)
        padded[:, :height, :width] = qkv
        qkv = padded
    split = qkv.view(batch, rows, size[0], columns, size[1], 3, heads, channels // (3 * heads))
    return split.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, size[0] * size[1], split.shape[-1])


def _from_windows(x: Tensor, shape: torch.Size, size: tuple[int, int], heads: int) -> Tensor:
    """G×S×D → B×H×W×C, where `shape` is (B, H, W)."""
    batch, height, width = shape
    rows, columns = (-(-side // step) for side, step in zip((height, width), size, strict=True))
    split = x.view(batch, rows, columns, heads, *size, x.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6)
    return split.reshape(batch, rows * size[0], columns * size[1], -1)[:, :height, :width]


def resize_relative_positions(positions: Tensor, length: int) -> Tensor:
    """Relative position embedding of one axis, (2·side − 1)×D, for another side: linear, as SAM's attention does it."""
    if len(positions) == length:
        return positions
    resized = F.interpolate(positions.T[None].float(), size=length, mode="linear")
    return resized[0].T.contiguous().to(positions.dtype)


def _relative_table(positions: Tensor, side: int) -> Tensor:
    """side×side×D: the embedding for every query's and every key's place along one axis."""
    place = torch.arange(side, device=positions.device)
    return resize_relative_positions(positions, 2 * side - 1)[place[:, None] - place[None, :] + side - 1]


def attend(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """Attention with decomposed relative positions (segment_anything `add_decomposed_rel_pos`, after MViTv2).

    Args:
        q, k, v: G×S×D.
        table_h, table_w: h×h×D and w×w×D: embeddings by the places of query and key.

    Returns:
        G×S×D: softmax(q·kᵀ/√D + q·table_hᵀ + q·table_wᵀ)·v. No G×S×S is ever in memory.
    """
    place = q.unflatten(1, (len(table_h), len(table_w)))
    rel_h = torch.einsum("ghwd,hkd->ghwk", place, table_h).flatten(1, 2)
    rel_w = torch.einsum("ghwd,wkd->ghwk", place, table_w).flatten(1, 2)
    q = q * q.shape[-1] ** -0.5
    return (_in_parts if runs_eagerly_on_cpu(q) else _folded)(q, k, v, rel_h, rel_w)


def _in_parts(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Part by part: several sequences at a time, or some queries of one."""
    places = q.shape[1]
    sequences, queries = max(1, _SCORES // places**2), max(1, _SCORES // places)
    q, k, v = q.contiguous(), k.contiguous(), v.transpose(1, 2).contiguous()
    seen = torch.empty_like(q)
    for first in range(0, len(q), sequences):
        some = slice(first, first + sequences)
        for start in range(0, places, queries):
            part = some, slice(start, start + queries)
            scores = _product(q[part], k[some])
            by_axis = scores.view(*scores.shape[:2], rel_h.shape[-1], rel_w.shape[-1])
            by_axis += rel_h[part][..., :, None]
            by_axis += rel_w[part][..., None, :]
            seen[part] = _product(torch.softmax(scores, dim=-1, out=scores), v[some])
    return seen


def _product(a: Tensor, b: Tensor) -> Tensor:
    """G×M×K, G×N×K → G×M×N: a·bᵀ."""
    return linear(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b.transpose(1, 2))


def _folded(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """In one scaled-dot-product attention: [q, rel_h, rel_w]·[k, place in h, place in w]ᵀ, places as one-hot rows."""
    height, width, channels = rel_h.shape[-1], rel_w.shape[-1], v.shape[-1]
    along_h = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, dim=0)
    along_w = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
    # Not len(k), which a program that is being traced would take for a constant.
    places = torch.cat([along_h, along_w], dim=1).expand(k.shape[0], -1, -1)
    q, k = torch.cat([q, rel_h, rel_w], dim=2), torch.cat([k, places], dim=2)
    if q.is_cuda:
        # Flash attention takes equal widths of q, k and v, multiples of 8 up to 256; SAM's largest has 208.
        whole = -(-q.shape[-1] // 8) * 8
        q, k, v = (F.pad(each, (0, whole - each.shape[-1])) for each in (q, k, v))
    return F.scaled_dot_product_attention(q[None], k[None], v[None], scale=1.0)[0, ..., :channels]
