"""From masks and scores to panoptic, semantic and instance segmentations (METHOD.md 1.10)."""

from .boxes import boxes_of_masks
from .instances import merge_instances
from .panoptic import merge_panoptic
from .restore import restore_masks
from .semantic import merge_semantic
from .views import View, join_views, stack_views

__all__ = [
    "View",
    "boxes_of_masks",
    "join_views",
    "merge_instances",
    "merge_panoptic",
    "merge_semantic",
    "restore_masks",
    "stack_views",
]
