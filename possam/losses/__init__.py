"""Matching of predictions with ground truth, and the training losses."""

from .matcher import HungarianMatcher, Match
from .prompted_criterion import Assignment, PromptedCriterion, PromptedOutput
from .set_criterion import SetCriterion
from .structures import LayerOutput, Target

__all__ = [
    "Assignment",
    "HungarianMatcher",
    "LayerOutput",
    "Match",
    "PromptedCriterion",
    "PromptedOutput",
    "SetCriterion",
    "Target",
]
