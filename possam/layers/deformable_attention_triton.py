"""The sampling of deformable attention on a GPU, as Triton kernels: nothing to build, no sample ever in memory.

Triton comes with PyTorch's builds for CUDA; nothing else imports this file.
"""

# B images, L levels of H_l×W_l, S = Σ H_l·W_l positions, Q queries, M heads of D channels, P points a level
# A program works on a block of queries, for one head of one image.

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

Size = tuple[int, int]

# Queries times channels of a program: eight numbers a thread.
BLOCK = 1024


def sample(value: Tensor, sizes: Sequence[Size], grid: Tensor, weights: Tensor) -> Tensor:
    """See `possam.layers.deformable_sampling`."""
    batch, _, heads, depth = value.shape
    value, grid, weights = value.contiguous(), grid.contiguous(), weights.contiguous()
    output = value.new_empty(batch, grid.shape[1], heads * depth)
    programs, constants = _launch(value, grid)
    with torch.cuda.device_of(value):
        _forward[programs](value, _on(value.device, tuple(sizes)), grid, weights, output, *constants)
    return output


def sample_backward(
    gradient: Tensor, value: Tensor, sizes: Sequence[Size], grid: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, grid and weights, in their dtypes, from that of the output.

    Those of value are summed in the dtype of the grid, in any order: they may differ in the last digits from run to
    run, as those of ``grid_sample`` do on a GPU.
    """
    value, grid, weights, gradient = (x.contiguous() for x in (value, grid, weights, gradient))
    to_value = torch.zeros_like(value, dtype=grid.dtype)
    to_grid, to_weights = torch.empty_like(grid), torch.empty_like(weights)
    programs, constants = _launch(value, grid)
    with torch.cuda.device_of(value):
        _backward[programs](
            gradient, value, _on(value.device, tuple(sizes)), grid, weights, to_value, to_grid, to_weights, *constants
        )
    return to_value.to(value.dtype), to_grid, to_weights


def _launch(value: Tensor, grid: Tensor) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Number of programs, and the kernels' last arguments."""
    batch, positions, heads, depth = value.shape
    queries, (levels, points) = grid.shape[1], grid.shape[3:5]
    channels = triton.next_power_of_2(depth)
    block = max(BLOCK // channels, 1)
    programs = (triton.cdiv(queries, block), batch * heads)
    return programs, (positions, queries, heads, depth, levels, points, block, channels)


@lru_cache(maxsize=256)
def _on(device: torch.device, sizes: tuple[Size, ...]) -> Tensor:
    """L×2 int32 on the device; kept, since a copy to the device waits for all that is under way there."""
    return torch.tensor(sizes, dtype=torch.int32, device=device)


@triton.jit
def _position(grid, entry, axis: tl.constexpr, length, valid):
    """Where samples lie along an axis, in positions counted from the first one's center."""
    return (tl.load(grid + 2 * entry + axis, mask=valid, other=0.0) + 1) * (length * 0.5) - 0.5


@triton.jit
def _corner(x, y, width, height, column: tl.constexpr, row: tl.constexpr, valid):
    """Linear weights along both axes, number of the position in its level, and whether there is one."""
    left = tl.floor(x) + column
    top = tl.floor(y) + row
    inside = valid & (left >= 0) & (left < width) & (top >= 0) & (top < height)
    position = tl.where(inside, top, 0).to(tl.int32) * width + tl.where(inside, left, 0).to(tl.int32)
    return 1 - tl.abs(x - left), 1 - tl.abs(y - top), position, inside


@triton.jit
def _forward(
    value,
    sizes,
    grid,
    weights,
    output,
    positions,
    queries,
    heads: tl.constexpr,
    depth: tl.constexpr,
    levels: tl.constexpr,
    points: tl.constexpr,
    block: tl.constexpr,
    channels: tl.constexpr,
):
    query = tl.program_id(0) * block + tl.arange(0, block)
    image, head = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    channel = tl.arange(0, channels)
    valid, real = query < queries, channel < depth
    # whole images are skipped in 64 bits, so that 32 are enough within one
    value += (image * positions * heads + head) * depth
    grid += image * queries * heads * levels * points * 2
    weights += image * queries * heads * levels * points
    place = query * heads + head
    total = tl.zeros((block, channels), dtype=grid.dtype.element_ty)
    for level in range(levels):
        height, width = tl.load(sizes + 2 * level), tl.load(sizes + 2 * level + 1)
        for point in range(points):
            entry = (place * levels + level) * points + point
            x = _position(grid, entry, 0, width, valid)
            y = _position(grid, entry, 1, height, valid)
            weight = tl.load(weights + entry, mask=valid, other=0.0)
            for corner in tl.static_range(4):
                near_x, near_y, position, inside = _corner(x, y, width, height, corner % 2, corner // 2, valid)
                address = (position * heads * depth)[:, None] + channel
                read = tl.load(value + address, mask=inside[:, None] & real, other=0.0).to(total.dtype)
                total += (weight * near_x * near_y)[:, None] * read
        value += height * width * heads * depth
    output += image * queries * heads * depth
    tl.store(
        output + place[:, None] * depth + channel, total.to(output.dtype.element_ty), mask=valid[:, None] & real
    )


@triton.jit
def _backward(
    gradient,
    value,
    sizes,
    grid,
    weights,
    to_value,
    to_grid,
    to_weights,
    positions,
    queries,
    heads: tl.constexpr,
    depth: tl.constexpr,
    levels: tl.constexpr,
    points: tl.constexpr,
    block: tl.constexpr,
    channels: tl.constexpr,
):
    query = tl.program_id(0) * block + tl.arange(0, block)
    image, head = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    channel = tl.arange(0, channels)
    valid, real = query < queries, channel < depth
    value += (image * positions * heads + head) * depth
    to_value += (image * positions * heads + head) * depth
    grid += image * queries * heads * levels * points * 2
    to_grid += image * queries * heads * levels * points * 2
    weights += image * queries * heads * levels * points
    to_weights += image * queries * heads * levels * points
    gradient += image * queries * heads * depth
    place = query * heads + head
    arriving = tl.load(gradient + place[:, None] * depth + channel, mask=valid[:, None] & real, other=0.0)
    arriving = arriving.to(grid.dtype.element_ty)
    for level in range(levels):
        height, width = tl.load(sizes + 2 * level), tl.load(sizes + 2 * level + 1)
        for point in range(points):
            entry = (place * levels + level) * points + point
            x = _position(grid, entry, 0, width, valid)
            y = _position(grid, entry, 1, height, valid)
            weight = tl.load(weights + entry, mask=valid, other=0.0)
            to_weight, to_x, to_y = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
            for corner in tl.static_range(4):
                near_x, near_y, position, inside = _corner(x, y, width, height, corner % 2, corner // 2, valid)
                address = (position * heads * depth)[:, None] + channel
                within = inside[:, None] & real
                read = tl.load(value + address, mask=within, other=0.0).to(arriving.dtype)
                product = tl.sum(read * arriving, axis=1)
                to_weight += near_x * near_y * product
                to_x += (2 * (corner % 2) - 1) * near_y * product
                to_y += (2 * (corner // 2) - 1) * near_x * product
                tl.atomic_add(
                    to_value + address, (weight * near_x * near_y)[:, None] * arriving, mask=within, sem="relaxed"
                )
            tl.store(to_weights + entry, to_weight, mask=valid)
            tl.store(to_grid + 2 * entry, to_x * weight * (width * 0.5), mask=valid)
            tl.store(to_grid + 2 * entry + 1, to_y * weight * (height * 0.5), mask=valid)
        value += height * width * heads * depth
        to_value += height * width * heads * depth
