"""Checks that the ways of merging share."""

from __future__ import annotations

from collections.abc import Sequence, Sized

import torch
from torch import Tensor


def check_masks(scores: Tensor, masks: Sized) -> None:
    """Raise ValueError unless scores are Q×K with K ≥ 1 and there are Q masks."""
    if scores.dim() != 2 or scores.shape[1] == 0 or len(scores) != len(masks):
        raise ValueError(
            f"expected scores Q×K with at least one class and masks of the same Q, "
            f"got shape {tuple(scores.shape)} and {len(masks)} masks"
        )


def check_isthing(isthing: Sequence[bool] | Tensor, scores: Tensor) -> Tensor:
    """Return ``isthing`` as K bool on the device of ``scores``; ValueError unless it has an entry a class."""
    if len(isthing) != scores.shape[1]:
        raise ValueError(
            f"isthing must say thing or stuff for each of the {scores.shape[1]} classes, "
            f"got {len(isthing)} entries"
        )
    return torch.as_tensor(isthing, dtype=torch.bool, device=scores.device)


def check_fraction(name: str, value: float) -> None:
    """Raise ValueError unless a threshold lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
