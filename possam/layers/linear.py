"""Linear layers with oneDNN's matrix products where they run on a CPU, the framework's everywhere else.

PyTorch multiplies float32 matrices with MKL, which leaves AVX-512 unused on processors that are not Intel's; oneDNN,
which comes with PyTorch too, does not.
"""

# … any dimensions, B batch, N rows, I inputs, O outputs

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["HAS_ONEDNN", "Linear", "linear", "multiply", "product"]

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
# Below so many multiplications a call costs more than it saves.
_LEAST = 2**22


class Linear(nn.Linear):
    """`nn.Linear`, computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """…×I → …×O."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·weightᵀ + bias, as `F.linear` has it: x …×I, weight O×I, bias O → …×O."""
    if not _pays(x, weight):
        return F.linear(x, weight, bias)
    y: Tensor = _Linear.apply(x.flatten(0, -2), weight, bias)
    return y.unflatten(0, x.shape[:-1])


def product(x: Tensor, y: Tensor) -> Tensor:
    """x·y without gradients: x B×N×I, y B×I×O → B×N×O."""
    x, y = x.detach(), y.detach()
    if torch.compiler.is_compiling() or not len(x) or not _pays(x[0], y[0].T):
        return x @ y
    images = [multiply(one, other.T) for one, other in zip(x, y, strict=True)]
    return images[0][None] if len(images) == 1 else torch.stack(images)  # of a single one stack makes a copy


def _pays(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN says the same, and sooner."""
    if not HAS_ONEDNN or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    plain = all(type(one) in (Tensor, nn.Parameter) and one.device.type == "cpu" for one in (x, weight))
    return plain and x.dtype == weight.dtype == torch.float32 and x.numel() * len(weight) >= _LEAST


class _Linear(torch.autograd.Function):
    """N×I, O×I, O → N×O."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return (
            multiply(gradient, weight.T) if ctx.needs_input_grad[0] else None,
            multiply(gradient.T, x.T) if ctx.needs_input_grad[1] else None,
            gradient.sum(0) if ctx.needs_input_grad[2] else None,
        )


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """x·weightᵀ + bias by oneDNN, all on a CPU and of one type; then GELU (the exact one) if asked. Has no gradient."""
    # Over a weight that is not dense it takes two thousand times as long.
    activation = "gelu" if gelu else "none"
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, activation, [], "none")
    return product
