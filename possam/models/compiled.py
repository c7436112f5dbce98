"""`MODEL.COMPILE`: torch.compile for the parts of a model that are worth it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from possam.layers.deformable_attention_sampling import triton_works

__all__ = ["compile_parts"]


def compile_parts(*parts: nn.Module | None, **options: Any) -> None:
    """Have modules compiled in place on their first call: parameters keep their names, checkpoints load both ways.

    Args:
        options: of `torch.compile`, for example `backend`.
    """
    # Here and not as a decorator, which would import torch._dynamo with the package, a second of CPU time.
    torch.compiler.assume_constant_result(triton_works)
    for part in parts:
        if part is not None:
            part.compile(**options)
