"""The Triton kernels of deformable attention against `grid_sample`, level by level, forward and backward.

Without a GPU the same kernels run in Triton's interpreter (TRITON_INTERPRET=1, set before Triton is imported).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import relative_error
from benchmarks.gpu.bench import Bench
from possam.layers import deformable_sampling, level_reference_points
from possam.layers.deformable_attention_sampling import triton_works

HEADS, DEPTH, POINTS = 8, 32, 4
TINY = 1, 8, 2
Sample = Callable[..., Tensor]


def run(bench: Bench) -> None:
    for side in (32,) if bench.tiny else (640, 1024):
        for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
            for backward in (False, True):
                name = f"{side}², {str(dtype).removeprefix('torch.')}, {'with gradients' if backward else 'forward'}"
                bench.step(name, partial(_compare, bench, side, dtype, backward, tolerance))


def _compare(bench: Bench, side: int, dtype: torch.dtype, backward: bool, tolerance: float) -> dict[str, Any]:
    levels = [(side // stride, side // stride) for stride in (32, 16, 8)]
    leaves = _inputs(bench, levels, dtype, backward)
    ours = partial(_work, _kernels(bench), levels, leaves, backward)
    theirs = partial(_work, partial(deformable_sampling, plain=True), levels, leaves, backward)
    error = max(relative_error(a, b) for a, b in zip(ours(), theirs(), strict=True))
    seconds, reference = bench.time(ours, runs=20), bench.time(theirs, runs=20)
    return {
        "seconds": seconds,
        "reference_seconds": reference,
        "peak_bytes": bench.peak(ours),
        "reference_peak_bytes": bench.peak(theirs),
        "error": error,
        "tolerance": tolerance,
    }


def _inputs(bench: Bench, levels: list[tuple[int, int]], dtype: torch.dtype, gradients: bool) -> list[Tensor]:
    torch.manual_seed(0)
    heads, depth, points = TINY if bench.tiny else (HEADS, DEPTH, POINTS)
    queries = sum(height * width for height, width in levels)
    shape = (1, queries, heads, len(levels), points)
    pixels = torch.tensor([(2 / width, 2 / height) for height, width in levels])[:, None]
    centers = 2 * level_reference_points(levels)[:, None, None, None] - 1
    inputs = [
        torch.randn(1, queries, heads, depth).to(dtype),
        centers + 2 * torch.randn(*shape, 2) * pixels,
        torch.rand(shape),
    ]
    return [x.to(bench.device).requires_grad_(gradients) for x in inputs]


def _work(sample: Sample, levels: list[tuple[int, int]], leaves: list[Tensor], backward: bool) -> list[Tensor]:
    """The output, and the gradients of value, grid and weights."""
    output = sample(leaves[0], levels, *leaves[1:])
    if not backward:
        return [output]
    return [output, *torch.autograd.grad(output.float().square().sum(), leaves)]


def _kernels(bench: Bench) -> Sample:
    if bench.cuda:
        if not triton_works():
            raise RuntimeError("Triton does not start here, so that grid_sample would be compared with itself")
        return deformable_sampling
    from possam.layers import deformable_attention_triton as kernels

    class Interpreted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor, levels: list[tuple[int, int]], grid: Tensor, weights: Tensor) -> Tensor:
            ctx.levels = levels
            ctx.save_for_backward(value, grid, weights)
            return kernels.sample(value, levels, grid, weights)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
            value, grid, weights = ctx.saved_tensors
            found = kernels.sample_backward(gradients[0], value, ctx.levels, grid, weights)
            return found[0], None, found[1], found[2]

    apply: Sample = Interpreted.apply
    return apply
