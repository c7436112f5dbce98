"""The evaluators by name. A new one is a file with a class, and an entry here."""

from collections.abc import Sequence
from pathlib import Path

from possam.d2.evaluation import DatasetEvaluators
from possam.d2.utils import Registry
from possam.evaluation.ground_truth import GroundTruth
from possam.evaluation.instance import InstanceEvaluator
from possam.evaluation.mask_quality import MaskQualityEvaluator
from possam.evaluation.panoptic import PanopticEvaluator
from possam.evaluation.per_image import PerImageEvaluator
from possam.evaluation.semantic import SemanticEvaluator
from possam.messages import did_you_mean
from possam.vocabulary import Vocabulary

__all__ = ["EVALUATOR_REGISTRY", "build_evaluators"]

EVALUATOR_REGISTRY = Registry("EVALUATOR")
EVALUATOR_REGISTRY.__doc__ = """
Functions ``(ground_truth, *, train_vocabulary, output_dir) -> DatasetEvaluator``, by the name of their task.
"""


@EVALUATOR_REGISTRY.register()
def panoptic(
    ground_truth: GroundTruth, *, train_vocabulary: Vocabulary | None, output_dir: Path | None
) -> PerImageEvaluator:
    return PanopticEvaluator(
        ground_truth.name, train_vocabulary=train_vocabulary, output_dir=output_dir, ground_truth=ground_truth
    )


@EVALUATOR_REGISTRY.register()
def semantic(
    ground_truth: GroundTruth, *, train_vocabulary: Vocabulary | None, output_dir: Path | None
) -> PerImageEvaluator:
    return SemanticEvaluator(ground_truth.name, train_vocabulary=train_vocabulary, ground_truth=ground_truth)


@EVALUATOR_REGISTRY.register()
def instance(
    ground_truth: GroundTruth, *, train_vocabulary: Vocabulary | None, output_dir: Path | None
) -> PerImageEvaluator:
    return InstanceEvaluator(ground_truth.name, train_vocabulary=train_vocabulary, ground_truth=ground_truth)


@EVALUATOR_REGISTRY.register()
def quality(
    ground_truth: GroundTruth, *, train_vocabulary: Vocabulary | None, output_dir: Path | None
) -> PerImageEvaluator:
    return MaskQualityEvaluator(ground_truth.name, ground_truth=ground_truth)


def build_evaluators(
    dataset_name: str,
    *,
    tasks: Sequence[str] = ("panoptic", "semantic", "instance", "quality"),
    train_vocabulary: Vocabulary | None = None,
    output_dir: str | Path | None = None,
) -> DatasetEvaluators:
    """Evaluators of a dataset, each scoring with the dataset's own vocabulary; annotations are read once for
    all.

    Args:
        dataset_name: a dataset registered by `possam.data.register_panoptic`.
        tasks: names in `EVALUATOR_REGISTRY`.
        train_vocabulary: what the model was trained on, to score seen and unseen classes apart, or None.
        output_dir: where evaluators may write predictions and tables, or None for nowhere.
    Raises:
        ValueError: an unknown task or dataset, or no task.
    """
    valid = [name for name, _ in EVALUATOR_REGISTRY]
    for task in tasks:
        if task not in valid:
            hint = did_you_mean(task, valid)
            raise ValueError(f"unknown evaluation task {task!r}; the tasks are {valid}.{hint}")
    if not tasks:
        raise ValueError(f"no evaluation task was given; choose of {valid}.")
    ground_truth = GroundTruth(dataset_name)
    directory = Path(output_dir) if output_dir is not None else None
    return DatasetEvaluators(
        [
            EVALUATOR_REGISTRY.get(task)(
                ground_truth, train_vocabulary=train_vocabulary, output_dir=directory
            )
            for task in tasks
        ]
    )
