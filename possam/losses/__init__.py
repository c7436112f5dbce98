"""Matching of predictions with ground truth, and the training losses."""

from .matcher import HungarianMatcher, Match
from .set_criterion import SetCriterion
from .structures import LayerOutput, Target

__all__ = ["HungarianMatcher", "LayerOutput", "Match", "SetCriterion", "Target"]
