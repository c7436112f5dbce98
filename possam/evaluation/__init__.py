"""Scores of a model on a dataset: panoptic, semantic, instance, prompted, and the ranks of its predicted IoU."""

from possam.evaluation.average_precision import LVIS_DETECTIONS, ap_library
from possam.evaluation.bootstrap import Estimate, bootstrap_results, difference, intervals
from possam.evaluation.build import Evaluators, build_evaluators, scored_tasks
from possam.evaluation.ground_truth import GroundTruth
from possam.evaluation.image_counts import ImageCounts
from possam.evaluation.instance import InstanceEvaluator
from possam.evaluation.mask_quality import MaskQualityEvaluator
from possam.evaluation.panoptic import PanopticEvaluator, panoptic_quality_from_files
from possam.evaluation.panoptic_semantic import PanopticSemanticEvaluator
from possam.evaluation.per_image import PerImageEvaluator
from possam.evaluation.prompted import PromptedEvaluator
from possam.evaluation.semantic import SemanticEvaluator
from possam.evaluation.tables import format_comparison, format_differences, format_table, headline_metrics
from possam.evaluation.tasks import Metric, Task, find_task, outputs_of, possible_tasks, register_task, registered_tasks

__all__ = [
    "LVIS_DETECTIONS",
    "Estimate",
    "Evaluators",
    "GroundTruth",
    "ImageCounts",
    "InstanceEvaluator",
    "MaskQualityEvaluator",
    "Metric",
    "PanopticEvaluator",
    "PanopticSemanticEvaluator",
    "PerImageEvaluator",
    "PromptedEvaluator",
    "SemanticEvaluator",
    "Task",
    "ap_library",
    "bootstrap_results",
    "build_evaluators",
    "difference",
    "find_task",
    "format_comparison",
    "format_differences",
    "format_table",
    "headline_metrics",
    "intervals",
    "outputs_of",
    "panoptic_quality_from_files",
    "possible_tasks",
    "register_task",
    "registered_tasks",
    "scored_tasks",
]
