"""One row of a benchmark: this project's way and another's, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Case", "largest_difference", "relative_error"]

Work = Callable[[], Any]
"""Does the work once and returns its result."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is compared, and what is expected of it.

    Attributes:
        name: what is done, at which size.
        reference: what it is compared with.
        ours, theirs: prepare one side (networks, inputs; not timed) and return its work. Both sides must make the same
            inputs, from seeds, since memory is measured with one side alone in a process.
        error: how far our result is from the reference's; None where results are not comparable.
        tolerance: error that is allowed.
        time_target, memory_target: ratio ours / reference aimed at; None where none is set.
        runs: how often both sides are timed, alternating, unless the command line says otherwise.
    """

    name: str
    reference: str
    ours: Callable[[], Work]
    theirs: Callable[[], Work]
    error: Callable[[Any, Any], float] | None = None
    tolerance: float = 0.0
    time_target: float | None = None
    memory_target: float | None = None
    runs: int = 5


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two tensors over the largest absolute value of the second."""
    difference = (ours.double() - theirs.double()).abs().max()
    return float(difference / theirs.double().abs().max())


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference of two tensors; of integers, the number of elements that differ."""
    if not torch.is_floating_point(ours):
        return float((ours != theirs).sum())
    return float((ours.double() - theirs.double()).abs().max())
