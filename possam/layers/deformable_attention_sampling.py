"""The sampling of deformable attention, by the fastest means that a device has."""

# B images, L levels of H_l×W_l, S = Σ H_l·W_l positions, Q queries, M heads of D channels, P points a level

import importlib.util
import logging
from collections.abc import Sequence
from functools import cache
from subprocess import SubprocessError
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from . import deformable_attention_cpu

Size = tuple[int, int]

logger = logging.getLogger(__name__)

# `is_exporting` came with PyTorch 2.7; without it, the plain way is taken in compiled models, too.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)

# The plain way's samples take more memory than all else in attention (264 MB a layer and image of 1024×1024 pixels).
# Beyond this many numbers they are sampled again in the backward pass rather than kept.
KEEP_SAMPLES_UP_TO = 2**24


def deformable_sampling(
    value: Tensor, sizes: Sequence[Size], grid: Tensor, weights: Tensor, *, plain: bool = False
) -> Tensor:
    """Weighted sum of bilinear samples (Deformable DETR, equation 3), computed in the dtype of ``grid``.

    On a CPU by sparse products, on CUDA by a Triton kernel where Triton works, and otherwise, or where the model is
    being exported, by ``torch.nn.functional.grid_sample``. All give the same up to rounding, gradients included;
    only the last can be differentiated twice.

    Args:
        value: B×S×M×D of any floating dtype, the levels laid end to end.
        sizes: (height, width) of the L levels.
        grid: B×Q×M×L×P×2 float32 or float64, (x, y) in [-1, 1]² of every level, (-1, -1) the outer corner of the top
            left position; outside of it is zero.
        weights: B×Q×M×L×P in the dtype of ``grid``, summing to 1 over levels and points.
        plain: use ``grid_sample`` whatever the device.

    Returns:
        B×Q×(M·D) in the dtype of ``value``, heads outermost.
    """
    if not plain and not _is_exporting() and _has_kernels(value.device):
        return _sampling(value, [side for size in sizes for side in size], grid, weights)
    inputs = (value.to(grid.dtype), sizes, grid, weights)
    if torch.is_grad_enabled() and weights.numel() * value.shape[-1] > KEEP_SAMPLES_UP_TO:
        output = checkpoint(_sample_by_grid, *inputs, use_reentrant=False, preserve_rng_state=False)
    else:
        output = _sample_by_grid(*inputs)
    return output.to(value.dtype)


def _has_kernels(device: torch.device) -> bool:
    """Whether a device has a way of its own."""
    return device.type == "cpu" or (device.type == "cuda" and triton_works())


def triton_works() -> bool:
    """Whether Triton is installed and starts. Its result is a constant to torch.compile (possam/models/compiled.py)."""
    return importlib.util.find_spec("triton") is not None and _triton_starts()


@cache
def _triton_starts() -> bool:
    """Whether Triton's driver starts, which it builds with the machine's C compiler at the first start; else warns."""
    import triton

    try:
        return triton.runtime.driver.active is not None
    except (RuntimeError, AssertionError, OSError, SubprocessError) as error:
        logger.warning(
            "Deformable attention goes without its GPU kernels, which is slower: Triton does not start (%.300s). "
            "It needs a C compiler, such as gcc, and the header files of Python.",
            error,
        )
        return False


def _sample_by_grid(value: Tensor, sizes: Sequence[Size], grid: Tensor, weights: Tensor) -> Tensor:
    batch, _, heads, depth = value.shape
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([height * width for height, width in sizes], dim=2)
    # queries innermost: the sum over points then runs along contiguous memory, twice as fast on a CPU
    grid = grid.permute(0, 2, 3, 4, 1, 5).flatten(0, 1)  # (B·M)×L×P×Q×2
    weights = weights.permute(0, 2, 3, 4, 1).flatten(0, 1)  # (B·M)×L×P×Q
    # level by level: the samples of all levels never lie side by side in one more copy
    output = value.new_zeros(())
    for level, (height, width) in enumerate(sizes):
        samples = F.grid_sample(
            maps[level].unflatten(2, (height, width)),
            grid[:, level],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        output = output + (samples * weights[:, None, level]).sum(2)
    return output.view(batch, heads * depth, -1).transpose(1, 2)


# Operators of their own, so that torch.compile takes each for one step and does not look inside. Their schemas are
# written out because PyTorch before 2.7 does not read `collections.abc.Sequence`.


@torch.library.custom_op(
    "possam::deformable_sampling",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor value, SymInt[] sizes, Tensor grid, Tensor weights) -> Tensor",
)
def _sampling(value: Tensor, sizes: Sequence[int], grid: Tensor, weights: Tensor) -> Tensor:
    return deformable_attention_cpu.sample(value, _pairs(sizes), grid, weights)


@torch.library.custom_op(
    "possam::deformable_sampling_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor gradient, Tensor value, SymInt[] sizes, Tensor grid, Tensor weights) -> (Tensor, Tensor, Tensor)",
)
def _sampling_backward(
    gradient: Tensor, value: Tensor, sizes: Sequence[int], grid: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return deformable_attention_cpu.sample_backward(gradient, value, _pairs(sizes), grid, weights)


@_sampling.register_kernel("cuda")
def _(value: Tensor, sizes: Sequence[int], grid: Tensor, weights: Tensor) -> Tensor:
    from . import deformable_attention_triton  # Triton comes with PyTorch's builds for CUDA alone

    return deformable_attention_triton.sample(value, _pairs(sizes), grid, weights)


@_sampling_backward.register_kernel("cuda")
def _(
    gradient: Tensor, value: Tensor, sizes: Sequence[int], grid: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    from . import deformable_attention_triton

    return deformable_attention_triton.sample_backward(gradient, value, _pairs(sizes), grid, weights)


@_sampling.register_fake
def _(value: Tensor, sizes: Sequence[int], grid: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(grid.shape[0], grid.shape[1], value.shape[2] * value.shape[3])


@_sampling_backward.register_fake
def _(
    gradient: Tensor, value: Tensor, sizes: Sequence[int], grid: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), grid.new_empty(grid.shape), weights.new_empty(weights.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.sizes, grid, weights = inputs
    ctx.save_for_backward(value, grid, weights)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, grid, weights = ctx.saved_tensors
    to_value, to_grid, to_weights = _sampling_backward(gradient, value, ctx.sizes, grid, weights)
    return to_value, None, to_grid, to_weights


_sampling.register_autograd(_backward, setup_context=_keep)


def _pairs(sizes: Sequence[int]) -> list[Size]:
    return list(zip(sizes[::2], sizes[1::2], strict=True))
