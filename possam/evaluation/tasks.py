"""The tasks a model is scored on: one row each, with what it needs, its evaluator and its headline metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from possam.data.catalog import ANNOTATIONS
from possam.evaluation.groups import GROUP_NAMES
from possam.evaluation.instance import InstanceEvaluator
from possam.evaluation.mask_quality import MaskQualityEvaluator
from possam.evaluation.panoptic import PanopticEvaluator
from possam.evaluation.panoptic_semantic import PanopticSemanticEvaluator
from possam.evaluation.per_image import PerImageEvaluator
from possam.evaluation.prompted import PromptedEvaluator
from possam.evaluation.semantic import SemanticEvaluator
from possam.inference import OUTPUTS
from possam.utils.messages import did_you_mean

__all__ = ["Column", "Metric", "Task", "find_task", "outputs_of", "possible_tasks", "register_task", "registered_tasks"]

_TASKS: dict[str, Task] = {}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of a task in a table: its heading, its key among the task's metrics, and its decimal places."""

    heading: str
    key: str
    places: int


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A headline metric of a task.

    Attributes:
        key: its name in results.json; that of a group of classes has the group's suffix (`GROUP_NAMES`) behind it.
        heading: its name in tables.
        text: what it is.
        groups: suffixes of the groups that have a column of their own where models or ensembles are compared; () for a
            metric of the report's table of all metrics alone.
        percent: whether it is in percent, and so in the tables by groups of classes.
        places: decimal places.
    """

    key: str
    heading: str
    text: str
    groups: tuple[str, ...] = ("",)
    percent: bool = True
    places: int = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a comparison."""
        return tuple(
            Column(
                heading=f"{self.heading} {GROUP_NAMES[suffix]}" if suffix else self.heading,
                key=self.key + suffix,
                places=self.places,
            )
            for suffix in self.groups
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Attributes:
        key: its name in `TEST.TASKS`.
        needs: the kind of annotation that a dataset must have (`ANNOTATIONS`).
        result: the key of its metrics in results.json.
        outputs: what the model's post-processing is asked for (`possam.inference.OUTPUTS`).
        evaluator: the class that scores it, built with the arguments of `PerImageEvaluator`.
        metrics: headline metrics, the first of which stands for the task.
        prompts: whether the model is given the `Prompts` of every image with it. Such a task is scored in a pass of its
            own, over inputs with "prompts", with models that take them (`ModelSpec.prompts`).
    """

    key: str
    needs: str
    result: str
    outputs: tuple[str, ...]
    evaluator: type[PerImageEvaluator]
    metrics: tuple[Metric, ...]
    prompts: bool = False


def register_task(task: Task) -> None:
    """Make a task known to configurations, evaluations, tables and reports."""
    assert task.key not in _TASKS, f"a task is registered as {task.key!r} already"
    assert all(task.result != other.result for other in registered_tasks()), f"two tasks write {task.result!r}"
    assert task.needs in ANNOTATIONS, f"task {task.key!r} needs the unknown annotation {task.needs!r}"
    assert set(task.outputs) <= set(OUTPUTS), f"task {task.key!r} has unknown outputs: {task.outputs}"
    _TASKS[task.key] = task


def registered_tasks() -> list[Task]:
    """All registered tasks, in the order of tables."""
    return list(_TASKS.values())


def find_task(key: str) -> Task:
    """The task of that name. Raises ValueError for an unknown one."""
    if key not in _TASKS:
        hint = did_you_mean(key, _TASKS)
        raise ValueError(f"unknown evaluation task {key!r}; the tasks are {list(_TASKS)}.{hint}")
    return _TASKS[key]


def possible_tasks(annotations: Collection[str]) -> tuple[str, ...]:
    """Names of the tasks that a dataset with these kinds of annotation (`ANNOTATIONS`) can be scored on."""
    return tuple(task.key for task in registered_tasks() if task.needs in annotations)


def outputs_of(names: Iterable[str]) -> tuple[str, ...]:
    """What tasks ask of a model's post-processing, each once."""
    return tuple(dict.fromkeys(output for name in names for output in find_task(name).outputs))


_SEEN = ("", "_seen", "_unseen")
_SPLIT = ("_base", "_novel")
_OF_INSTANCES = (*_SEEN, *_SPLIT, "_small", "_medium", "_large")

register_task(
    Task(
        key="panoptic",
        needs="panoptic",
        result="panoptic_seg",
        outputs=("panoptic",),
        evaluator=PanopticEvaluator,
        metrics=(
            Metric(key="PQ", heading="PQ", text="panoptic quality", groups=(*_SEEN, "_th", "_st")),
            Metric(key="SQ", heading="SQ", text="segmentation quality"),
            Metric(key="RQ", heading="RQ", text="recognition quality"),
        ),
    )
)
register_task(
    Task(
        key="semantic",
        needs="semantic",
        result="sem_seg",
        outputs=("semantic",),
        evaluator=SemanticEvaluator,
        metrics=(Metric(key="mIoU", heading="mIoU", text="mean IoU of pixels", groups=_SEEN),),
    )
)
register_task(
    Task(
        key="instance",
        needs="instance",
        result="segm",
        outputs=("instance",),
        evaluator=InstanceEvaluator,
        metrics=(
            Metric(
                key="AP",
                heading="AP",
                text="average precision of masks",
                groups=(*_SEEN, *_SPLIT, "r", "c", "f"),
            ),
            Metric(key="AP50", heading="AP50", text="the same at IoU 0.50", groups=()),
            Metric(key="AP75", heading="AP75", text="the same at IoU 0.75", groups=()),
        ),
    )
)
register_task(
    Task(
        key="mask_quality",
        needs="panoptic",
        result="iou_head",
        outputs=("panoptic", "mask_quality"),
        evaluator=MaskQualityEvaluator,
        metrics=(
            Metric(
                key="spearman_segments",
                heading="ρ(IoU)",
                text="rank correlation of predicted and true IoU",
                percent=False,
                places=2,
            ),
        ),
    )
)
register_task(
    Task(
        key="panoptic_semantic",
        needs="semantic",
        result="panoptic_sem_seg",
        outputs=("panoptic",),
        evaluator=PanopticSemanticEvaluator,
        metrics=(
            Metric(
                key="mIoU", heading="mIoU (panoptic)", text="mean IoU of pixels of the panoptic segments", groups=_SEEN
            ),
        ),
    )
)
register_task(
    Task(
        key="prompted",
        needs="instance",
        result="prompted",
        outputs=("prompted",),
        evaluator=PromptedEvaluator,
        metrics=(
            Metric(
                key="mIoU", heading="mIoU (prompts)", text="mean IoU of the masks of prompts", groups=_OF_INSTANCES
            ),
            Metric(
                key="accuracy",
                heading="accuracy",
                text="prompts whose mask gets the right class",
                groups=_OF_INSTANCES,
            ),
            Metric(
                key="AP",
                heading="AP (boxes)",
                text="average precision of the masks of a detector's boxes",
                groups=(*_SEEN, *_SPLIT, "r", "c", "f"),
            ),
        ),
        prompts=True,
    )
)
