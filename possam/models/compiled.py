"""`MODEL.COMPILE`: torch.compile for the parts of a model that are worth it."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["compile_parts"]


def compile_parts(*parts: nn.Module | None, **options: Any) -> None:
    """Have modules compiled in place on their first call: parameters keep their names, checkpoints load both ways.

    Args:
        options: of `torch.compile`, for example `backend`.
    """
    for part in parts:
        if part is not None:
            part.compile(**options)
