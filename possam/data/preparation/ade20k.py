"""ADE20K-150: all of its preparations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from possam.data.preparation.ade20k_instance import ADE20K_INSTANCE
from possam.data.preparation.ade20k_panoptic import ADE20K_PANOPTIC
from possam.data.preparation.ade20k_semantic import ADE20K_SEMANTIC
from possam.data.preparation.plan import Need, Plan
from possam.data.preparation.preparation import FilePreparation

__all__ = ["ADE20K"]

_PARTS = (ADE20K_SEMANTIC, ADE20K_PANOPTIC, ADE20K_INSTANCE)


def _needs(split: str) -> list[Need]:
    return [need for part in _PARTS for need in part.needs(split)]


def _plans(root: Path, split: str) -> Sequence[Plan]:
    return [plan for part in _PARTS for plan in part.plans(root, split)]


ADE20K = FilePreparation(
    name="ade20k",
    description="all three: ade20k_semantic, ade20k_panoptic and ade20k_instance",
    needs=_needs,
    plans=_plans,
)
