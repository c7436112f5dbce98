"""Running a model over a dataset and judging what comes out."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.evaluation import (
        DatasetEvaluator,
        DatasetEvaluators,
        inference_context,
        inference_on_dataset,
        print_csv_format,
    )
else:
    from detectron2.evaluation import (
        DatasetEvaluator,
        DatasetEvaluators,
        inference_context,
        inference_on_dataset,
        print_csv_format,
    )

__all__ = ["DatasetEvaluator", "DatasetEvaluators", "inference_context", "inference_on_dataset", "print_csv_format"]
