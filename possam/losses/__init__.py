"""Matching of predictions with ground truth, and the training losses."""

from .image_labels import ImageLabelCriterion, LabeledImage
from .matcher import HungarianMatcher, Match
from .prompted_criterion import Assignment, PromptedCriterion, PromptedOutput
from .set_criterion import SetCriterion
from .structures import LayerOutput, Target

__all__ = [
    "Assignment",
    "HungarianMatcher",
    "ImageLabelCriterion",
    "LabeledImage",
    "LayerOutput",
    "Match",
    "PromptedCriterion",
    "PromptedOutput",
    "SetCriterion",
    "Target",
]
