"""The evaluators of a dataset's tasks."""

import logging
from collections.abc import Sequence
from pathlib import Path

from possam.d2.evaluation import DatasetEvaluators
from possam.evaluation.ground_truth import GroundTruth
from possam.evaluation.per_image import PerImageEvaluator
from possam.evaluation.tasks import find_task, possible_tasks, registered_tasks
from possam.vocabulary import Vocabulary

__all__ = ["Evaluators", "build_evaluators", "scored_tasks"]

logger = logging.getLogger(__name__)


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

    Raises:
        ValueError: a task is unknown, or the dataset has none of them.
    """
    kept = tuple(task for task in wanted if find_task(task).needs in ground_truth.tasks)
    if not kept:
        raise ValueError(
            f"dataset {ground_truth.name!r} has annotations for {list(ground_truth.tasks)}, with which none of the "
            f"tasks to score, {list(wanted)}, can be; add one of {list(possible_tasks(ground_truth.tasks))} to "
            "TEST.TASKS, or leave the dataset out of DATASETS.TEST."
        )
    if len(kept) < len(wanted):
        left_out = [task for task in wanted if task not in kept]
        logger.info("%s has no annotation for %s: not scored there", ground_truth.name, ", ".join(left_out))
    return kept


def build_evaluators(
    dataset: str | GroundTruth,
    *,
    tasks: Sequence[str] = ("panoptic", "semantic", "instance", "mask_quality"),
    train_vocabulary: Vocabulary | None = None,
    output_dir: str | Path | None = None,
) -> Evaluators:
    """Evaluators of a dataset, each scoring with the dataset's own vocabulary; annotations are read once for
    all.

    Args:
        dataset: the name of a registered dataset, or its annotations, to be shared with other evaluators.
        tasks: names of registered tasks; those the dataset has no annotation for are left out (`scored_tasks`).
        train_vocabulary: what the model was trained on, to score seen and unseen classes apart, or None.
        output_dir: where evaluators may write predictions and tables, or None for nowhere.
    Raises:
        ValueError: an unknown task or dataset, no task, or none that the dataset has annotations for.
    """
    if not tasks:
        raise ValueError(f"no evaluation task was given; choose of {[task.key for task in registered_tasks()]}.")
    for key in tasks:
        find_task(key)  # before the dataset is looked at
    ground_truth = dataset if isinstance(dataset, GroundTruth) else GroundTruth(dataset)
    return Evaluators(
        [
            find_task(key).evaluator(
                ground_truth.name,
                train_vocabulary=train_vocabulary,
                output_dir=output_dir,
                ground_truth=ground_truth,
            )
            for key in scored_tasks(ground_truth, tasks)
        ]
    )
