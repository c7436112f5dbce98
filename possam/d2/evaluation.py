"""Evaluators, and the mode in which models are evaluated."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.evaluation import DatasetEvaluator, DatasetEvaluators, inference_context
else:
    from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators, inference_context

__all__ = ["DatasetEvaluator", "DatasetEvaluators", "inference_context"]
