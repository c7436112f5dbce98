"""What all frozen encoders share: how they run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["frozen", "no_autocast", "working_dtype"]

Encoder = TypeVar("Encoder", bound=nn.Module)


def frozen(forward: Callable[[Encoder, Tensor], Tensor]) -> Callable[[Encoder, Tensor], Tensor]:
    """Decorator: run in inference mode, and return an ordinary tensor, which a training step may save for its backward.

    A program that is being traced has no inference mode; there it is `no_grad`.
    """

    @functools.wraps(forward)
    def run(self: Encoder, images: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
            with torch.no_grad():
                return forward(self, images)
        with torch.inference_mode():
            features = forward(self, images)
        return features.clone(memory_format=torch.contiguous_format)

    return run


def working_dtype(weight: Tensor) -> torch.dtype:
    """Type of matrix products over `weight`: autocast's where it is on, else the weight's own."""
    kind = weight.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return weight.dtype


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    # The meta device, on which configurations are checked, knows no autocast and refuses to have it switched off.
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
