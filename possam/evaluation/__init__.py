"""Scores of a model on a dataset: panoptic, semantic, instance, and how well it knows its own masks."""

from possam.evaluation.average_precision import LVIS_DETECTIONS, ap_library
from possam.evaluation.build import EVALUATOR_REGISTRY, Evaluators, build_evaluators, scored_tasks
from possam.evaluation.ground_truth import GroundTruth
from possam.evaluation.instance import InstanceEvaluator
from possam.evaluation.mask_quality import MaskQualityEvaluator
from possam.evaluation.panoptic import PanopticEvaluator, panoptic_quality_from_files
from possam.evaluation.per_image import PerImageEvaluator
from possam.evaluation.semantic import SemanticEvaluator
from possam.evaluation.tables import format_comparison, format_table

__all__ = [
    "EVALUATOR_REGISTRY",
    "LVIS_DETECTIONS",
    "Evaluators",
    "GroundTruth",
    "InstanceEvaluator",
    "MaskQualityEvaluator",
    "PanopticEvaluator",
    "PerImageEvaluator",
    "SemanticEvaluator",
    "ap_library",
    "build_evaluators",
    "format_comparison",
    "format_table",
    "panoptic_quality_from_files",
    "scored_tasks",
]
