"""From masks and scores to panoptic, semantic and instance segmentations (METHOD.md 1.10)."""

from .boxes import boxes_of_masks
from .instances import merge_instances
from .mask_filter import MASK_FILTERS
from .mask_grid import MaskGrid
from .out_of_memory import retry_out_of_memory
from .panoptic import merge_panoptic
from .postprocessor import OUTPUTS, SEMANTIC, Postprocessor
from .semantic import merge_semantic, merge_semantic_scores
from .views import View, join_views, stack_views

__all__ = [
    "MASK_FILTERS",
    "OUTPUTS",
    "SEMANTIC",
    "MaskGrid",
    "Postprocessor",
    "View",
    "boxes_of_masks",
    "join_views",
    "merge_instances",
    "merge_panoptic",
    "merge_semantic",
    "merge_semantic_scores",
    "retry_out_of_memory",
    "stack_views",
]
