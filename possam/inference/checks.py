"""Checks that the ways of merging share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_masks(scores: Tensor, mask_logits: Tensor) -> None:
    """Raise ValueError unless scores are Q×K with K ≥ 1 and mask logits Q×H×W of the same Q."""
    if scores.dim() != 2 or scores.shape[1] == 0 or mask_logits.dim() != 3 or len(scores) != len(mask_logits):
        raise ValueError(
            "expected scores Q×K with at least one class and mask logits Q×H×W of the same Q, "
            f"got shapes {tuple(scores.shape)} and {tuple(mask_logits.shape)}"
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
