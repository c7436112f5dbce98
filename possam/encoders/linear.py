"""Linear layers of frozen encoders: oneDNN's where they run on a CPU, the framework's everywhere else.

Without gradients, unlike `possam.layers.Linear`, but in half precision too, and with GELU applied while a result is
still in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from possam.encoders.base import working_dtype
from possam.layers.linear import HAS_ONEDNN, multiply

__all__ = ["fast_linear", "linear", "runs_eagerly_on_cpu"]

_DTYPES = (torch.float32, torch.bfloat16)


def runs_eagerly_on_cpu(x: Tensor) -> bool:
    """Whether what is done with `x` happens now and on a CPU, not in a program that is being traced."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """…×I → …×O in the type of `x`: x·weightᵀ + bias, then GELU (the exact one) if asked. There is no gradient.

    Args:
        weight: O×I; bias: O. Both are brought to the type of `x`.
    """
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    if HAS_ONEDNN and x.dtype in _DTYPES and x.numel() and runs_eagerly_on_cpu(x):
        return multiply(x, weight, bias, gelu=gelu)
    y = F.linear(x, weight, bias)
    return F.gelu(y) if gelu else y


def fast_linear() -> AbstractContextManager[object]:
    """Within it, `F.linear` is `linear` wherever no gradient is asked for: for towers that are other packages' code."""
    return nullcontext() if torch.compiler.is_compiling() else _FastLinear()


class _FastLinear(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and not kwargs and _is_plain(*args):
            return linear(*args)
        return func(*args, **(kwargs or {}))


def _is_plain(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether `linear` says the same: no gradient, no autocast to another type, and one type."""
    same = x.dtype == weight.dtype == working_dtype(weight) and (bias is None or bias.dtype == x.dtype)
    return same and not torch.is_grad_enabled()
