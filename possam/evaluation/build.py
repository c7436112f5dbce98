"""The evaluators by name. A new one is a file with a class, and an entry here."""

import logging
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

__all__ = ["EVALUATOR_REGISTRY", "Evaluators", "build_evaluators", "scored_tasks"]

logger = logging.getLogger(__name__)

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


class Evaluators(DatasetEvaluators):  # type: ignore[misc]
    """Several evaluators of one dataset as one.

    Attributes:
        evaluators: each of them, in the order of their tasks.
    """

    def __init__(self, evaluators: Sequence[PerImageEvaluator]) -> None:
        super().__init__(evaluators)
        self.evaluators = tuple(evaluators)


def scored_tasks(ground_truth: GroundTruth, wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of the wanted tasks that a dataset has annotations for; the others are left out, and the log says so.

    Masks are judged ("quality") by the panoptic annotation.

    Raises:
        ValueError: the dataset has none of them.
    """
    possible = ground_truth.tasks + (("quality",) if "panoptic" in ground_truth.tasks else ())
    kept = tuple(task for task in wanted if task in possible)
    if not kept:
        raise ValueError(
            f"dataset {ground_truth.name!r} has annotations for {list(ground_truth.tasks)}, and none of them is among "
            f"the tasks to score, {list(wanted)}; add one to TEST.TASKS, or leave the dataset out of DATASETS.TEST."
        )
    if len(kept) < len(wanted):
        left_out = [task for task in wanted if task not in kept]
        logger.info("%s has no annotation for %s: not scored there", ground_truth.name, ", ".join(left_out))
    return kept


def build_evaluators(
    dataset: str | GroundTruth,
    *,
    tasks: Sequence[str] = ("panoptic", "semantic", "instance", "quality"),
    train_vocabulary: Vocabulary | None = None,
    output_dir: str | Path | None = None,
) -> Evaluators:
    """Evaluators of a dataset, each scoring with the dataset's own vocabulary; annotations are read once for
    all.

    Args:
        dataset: the name of a registered dataset, or its annotations, to be shared with other evaluators.
        tasks: names in `EVALUATOR_REGISTRY`; those the dataset has no annotation for are left out (`scored_tasks`).
        train_vocabulary: what the model was trained on, to score seen and unseen classes apart, or None.
        output_dir: where evaluators may write predictions and tables, or None for nowhere.
    Raises:
        ValueError: an unknown task or dataset, no task, or none that the dataset has annotations for.
    """
    valid = [name for name, _ in EVALUATOR_REGISTRY]
    for task in tasks:
        if task not in valid:
            hint = did_you_mean(task, valid)
            raise ValueError(f"unknown evaluation task {task!r}; the tasks are {valid}.{hint}")
    if not tasks:
        raise ValueError(f"no evaluation task was given; choose of {valid}.")
    ground_truth = dataset if isinstance(dataset, GroundTruth) else GroundTruth(dataset)
    directory = Path(output_dir) if output_dir is not None else None
    return Evaluators(
        [
            EVALUATOR_REGISTRY.get(task)(ground_truth, train_vocabulary=train_vocabulary, output_dir=directory)
            for task in scored_tasks(ground_truth, tasks)
        ]
    )
