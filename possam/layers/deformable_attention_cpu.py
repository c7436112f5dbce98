"""The sampling of deformable attention on a CPU, as a product with a sparse matrix that has four entries a sample.

`grid_sample` reads a sample's channels one by one, each from a map of its own; a sparse product reads rows of D
channels. The matrix is made again in the backward pass, so that nothing but the inputs is kept for it.
"""

# L levels of H_l×W_l, S = Σ H_l·W_l positions, Q queries, M heads of D channels, P points a level, N = M·L·P
# Rows: S·M of D channels, positions outermost, as an image's values lie in memory
# A sample has 2×2 corners: near and far in y, outermost, times near and far in x

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
# At once: what is made on the way, sixteen times as large as the weights, is to fit the cache.
_QUERIES = 1024


def sample(value: Tensor, sizes: Sequence[Size], grid: Tensor, weights: Tensor) -> Tensor:
    """See `possam.layers.deformable_sampling`."""
    levels = _levels(sizes, grid)
    output = grid.new_empty(*grid.shape[:2], value.shape[2] * value.shape[3])
    for rows, places, shares, sums in zip(_rows(value, grid), grid, weights, output, strict=True):
        for start in range(0, len(places), _QUERIES):
            part = slice(start, start + _QUERIES)
            near, beyond = _corners(places[part], levels)
            index, entries = _indices(near, levels), _entries(*_hats(beyond, levels), shares[part])
            found = F.embedding_bag(index, rows, per_sample_weights=entries, mode="sum")
            sums[part] = found.view(-1, sums.shape[1])
    return output.to(value.dtype)


def sample_backward(
    gradient: Tensor, value: Tensor, sizes: Sequence[Size], grid: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, grid and weights, in their dtypes, from that of the output."""
    levels = _levels(sizes, grid)
    # contiguous, as the sparse product takes it to be without asking
    outputs = gradient.to(grid.dtype).contiguous().unflatten(-1, (-1, value.shape[-1])).flatten(1, 2)  # B×(Q·M)×D
    to_value, to_grid, to_weights = [], [], []
    for rows, output, places, shares in zip(_rows(value, grid), outputs, grid, weights, strict=True):
        near, beyond = _corners(places, levels)
        index = _indices(near, levels)
        hats = _hats(beyond, levels)
        to_value.append(_spread(output, index, _entries(*hats, shares), len(rows)))
        to_entries = _dots(output, index, rows)
        place, share = _through_hats(to_entries, hats, beyond, levels, shares)
        to_grid.append(place)
        to_weights.append(share)
    return torch.stack(to_value).view(value.shape).to(value.dtype), torch.stack(to_grid), torch.stack(to_weights)


def _rows(value: Tensor, grid: Tensor) -> Tensor:
    return value.to(grid.dtype).contiguous().flatten(1, 2)


class _Levels(NamedTuple):
    """Constants of the levels, once a head and point. Pairs are (x, y); counts are in rows where int32."""

    half: Tensor  # 2×1×N: half the size
    last: Tensor  # 2×1×N: the last position that has one beyond it (0 in a level of a single one)
    step: Tensor  # 2×1×N: from the near to the far corner, 1 (0 in a level of a single position)
    start: Tensor  # N int32: the level's first row of the head
    corners: Tensor  # 4×M×(L·P) int32: from the near corner to each
    heads: int


def _levels(sizes: Sequence[Size], grid: Tensor) -> _Levels:
    heads, _, points = grid.shape[2:5]
    size = torch.tensor([(width, height) for height, width in sizes], dtype=grid.dtype).T  # 2×L
    step = (size - 1).clamp(max=1)
    right = step[0] * heads
    down = step[1] * size[0] * heads
    start = (size[0] * size[1]).cumsum(0).roll(1) * heads
    start[0] = 0
    corners = torch.stack([torch.zeros_like(right), right, down, down + right])

    def spread(levels: Tensor) -> Tensor:  # …×L → …×M×(L·P)
        return levels.repeat_interleave(points, dim=-1)[..., None, :].repeat(*[1] * (levels.dim() - 1), heads, 1)

    return _Levels(
        half=spread(size / 2).flatten(1)[:, None],
        last=spread((size - 2).clamp(min=0)).flatten(1)[:, None],
        step=spread(step).flatten(1)[:, None],
        start=(spread(start) + torch.arange(heads)[:, None]).flatten().int(),
        corners=spread(corners).int(),
        heads=heads,
    )


def _corners(places: Tensor, levels: _Levels) -> tuple[Tensor, Tensor]:
    """Near corners, and how far beyond them the Q×M×L×P×2 places are, in positions: 2×Q×N each.

    At the borders the near corner is the nearest that has a far one, so that all four are inside of the level.
    """
    planes = places.flatten(1, 3).permute(2, 0, 1).clone(memory_format=torch.contiguous_format)
    position = planes.add_(1).mul_(levels.half).sub_(0.5)  # in this order, to be rounded as in grid_sample
    near = position.floor()
    near = torch.minimum(near.clamp_(min=0), levels.last, out=near)
    return near, position.sub_(near)


def _hats(beyond: Tensor, levels: _Levels) -> tuple[Tensor, Tensor]:
    """Linear weights of near and far corners, 2×Q×N each: 1 at the corner, 0 from one position away on."""
    near = (1 - beyond.abs()).clamp_(min=0)
    far = torch.sub(levels.step, (beyond - 1).abs_()).clamp_(min=0)
    return near, far


def _indices(near: Tensor, levels: _Levels) -> Tensor:
    """(Q·M)×(4·L·P) int32: rows of all corners."""
    width = 2 * levels.half[0]
    # a position that is no number is sampled anywhere: its weights make the output no number
    first = torch.addcmul(near[0], near[1], width).int().clamp_(min=0).mul_(levels.heads).add_(levels.start)
    first = first.view(len(first), levels.heads, -1)
    index = first.new_empty(*first.shape[:2], 4, first.shape[2])
    for corner, offset in enumerate(levels.corners):
        torch.add(first, offset, out=index[:, :, corner])
    return index.flatten(0, 1).flatten(1)


def _entries(near: Tensor, far: Tensor, shares: Tensor) -> Tensor:
    """(Q·M)×(4·L·P): bilinear weights times those of attention (Q×M×L×P)."""
    shape = (*shares.shape[:2], shares.shape[2] * shares.shape[3])
    entries = shares.new_empty(*shape[:2], 4, shape[2])
    for row, hat in enumerate((near[1], far[1])):
        share = hat.view(shape) * shares.reshape(shape)
        for column, other in enumerate((near[0], far[0])):
            torch.mul(share, other.view(shape), out=entries[:, :, 2 * row + column])
    return entries.flatten(0, 1).flatten(1)


def _spread(output: Tensor, index: Tensor, entries: Tensor, rows: int) -> Tensor:
    """The transposed product: what every one of the rows gets of the (Q·M)×D gradients of the output."""
    from scipy.sparse import csr_array  # here: importing the package stays fast

    starts = np.arange(len(index) + 1, dtype=np.int32) * index.shape[1]
    matrix = csr_array((entries.numpy().ravel(), index.numpy().ravel(), starts), shape=(len(index), rows))
    # SciPy's, since it needs no entries in order: sorting them takes three times as long as the product
    return torch.from_numpy(matrix.T @ output.numpy())


def _dots(output: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Gradients of the entries: products of an output's gradient and a row, only where there is an entry."""
    entries = index.shape[1]
    rows = F.pad(rows, (0, 0, 0, max(entries - len(rows), 0)))  # fewer columns than entries are refused
    starts = torch.arange(len(index) + 1, dtype=torch.int32) * entries
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        # entries of a row are neither in order nor distinct, which a product at each of them does not ask for
        pattern = torch.sparse_csr_tensor(
            starts, index.flatten(), rows.new_zeros(index.numel()), (len(index), len(rows)), check_invariants=False
        )
    return torch.sparse.sampled_addmm(pattern, output, rows.T, beta=0.0).values()


def _through_hats(
    to_entries: Tensor, hats: tuple[Tensor, Tensor], beyond: Tensor, levels: _Levels, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of places (Q×M×L×P×2) and attention weights (Q×M×L×P) from those of the entries ((Q·M)×(4·L·P))."""
    shape = (*shares.shape[:2], shares.shape[2] * shares.shape[3])
    # at a corner itself a hat has the slope of its right side, as in grid_sample
    left, inside, right = ((beyond.floor() == number).to(beyond) for number in (-1, 0, 1))
    slopes = (left - inside, (inside - right) * levels.step)
    (near_x, near_y), (far_x, far_y) = (hat.view(2, *shape) for hat in hats)
    (near_dx, near_dy), (far_dx, far_dy) = (slope.view(2, *shape) for slope in slopes)
    upper_near, upper_far, lower_near, lower_far = to_entries.view(*shape[:2], 4, shape[2]).unbind(2)
    upper = upper_near * near_x + upper_far * far_x
    lower = lower_near * near_x + lower_far * far_x
    to_shares = upper * near_y + lower * far_y
    to_x = (upper_near * near_dx + upper_far * far_dx) * near_y + (lower_near * near_dx + lower_far * far_dx) * far_y
    to_y = upper * near_dy + lower * far_dy
    to_places = torch.stack([to_x, to_y]) * shares.reshape(shape) * levels.half.view(2, 1, *shape[1:])
    return to_places.permute(1, 2, 3, 0).reshape(*shares.shape, 2), to_shares.view(shares.shape)
