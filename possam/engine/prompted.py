"""The settings of tasks with prompts, `TEST.PROMPTED`: what they mean, and what can be checked beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from possam.d2.config import CfgNode
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data.checks import image_size
from possam.data.detections import Detections, load_detections
from possam.evaluation import find_task
from possam.models import model_spec
from possam.vocabulary import Vocabulary
from possam.vocabulary.splits import find_split

__all__ = ["check_detections", "check_prompts", "prompt_options"]


def check_prompts(cfg: CfgNode) -> None:
    """Check that the tasks of `TEST.TASKS` and the system agree on prompts, and the settings of prompts, without data.

    Raises:
        ValueError: the system or test-time augmentation takes no prompts, the system needs them and a task gives it
            none, or `TEST.PROMPTED` cannot be used.
        FileNotFoundError: there is no file `TEST.PROMPTED.DETECTIONS`.
    """
    prompted = [task for task in cfg.TEST.TASKS if find_task(task).prompts]
    name = cfg.MODEL.META_ARCHITECTURE
    other = [task for task in cfg.TEST.TASKS if task not in prompted]
    if other and cfg.DATASETS.TEST and model_spec(name).prompts:
        raise ValueError(
            f"TEST.TASKS has {other[0]!r}, which needs a model that finds masks itself, but {name} makes masks of "
            "prompts; leave it out, and take 'prompted'."
        )
    if not prompted:
        return
    if not model_spec(name).prompts:
        raise ValueError(
            f"TEST.TASKS has {prompted[0]!r}, which needs a model that takes prompts, but {name} takes none; leave it "
            "out, or evaluate another model."
        )
    if cfg.TEST.AUG.ENABLED:
        raise ValueError(
            f"TEST.TASKS has {prompted[0]!r}, whose prompts test-time augmentation does not transform; leave it out, "
            "or set TEST.AUG.ENABLED False."
        )
    settings = cfg.TEST.PROMPTED
    if settings.KIND == "detector":
        if not settings.DETECTIONS:
            raise ValueError(
                "TEST.PROMPTED.KIND is 'detector', but TEST.PROMPTED.DETECTIONS is empty; set it to the detector's "
                "results on the test set, a JSON in COCO's format."
            )
        if not Path(settings.DETECTIONS).is_file():
            raise FileNotFoundError(f"TEST.PROMPTED.DETECTIONS: {settings.DETECTIONS} does not exist.")
    if settings.GROUND_TRUTH_REGIONS:
        if settings.KIND == "detector":
            raise ValueError(
                "TEST.PROMPTED.GROUND_TRUTH_REGIONS needs prompts of annotated instances; set it False, or "
                "TEST.PROMPTED.KIND to 'point' or 'box'."
            )
        if not model_spec(name).region_boxes:
            raise ValueError(
                f"TEST.PROMPTED.GROUND_TRUTH_REGIONS gives CLIP the annotated boxes, which {name} does not read; set "
                "it False."
            )


def prompt_options(cfg: CfgNode, dataset: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The arguments of `EvaluationPromptMapper` but those of its base. Raises as `load_detections`."""
    settings = cfg.TEST.PROMPTED
    return {
        "kind": settings.KIND,
        "detections": _detections(cfg, dataset, records) if settings.KIND == "detector" else None,
        "detector_labels": settings.LABELS == "detector",
        "region_boxes": settings.GROUND_TRUTH_REGIONS,
    }


def check_detections(cfg: CfgNode) -> None:
    """Check `TEST.PROMPTED.DETECTIONS` against every test set, where it is used. Raises as `load_detections`."""
    if cfg.TEST.PROMPTED.KIND == "detector" and any(find_task(task).prompts for task in cfg.TEST.TASKS):
        for name in cfg.DATASETS.TEST:
            _detections(cfg, name, DatasetCatalog.get(name))


def _detections(cfg: CfgNode, dataset: str, records: Sequence[Mapping[str, Any]]) -> dict[Any, Detections]:
    metadata = MetadataCatalog.get(dataset)
    vocabulary: Vocabulary = metadata.vocabulary
    split = getattr(metadata, "class_split", "")
    # A detector's classes are those of the table that the split divides.
    table = Vocabulary.load(find_split(split).table).contiguous_id if split else {}
    return load_detections(
        cfg.TEST.PROMPTED.DETECTIONS,
        sizes={record["image_id"]: image_size(record) for record in records},
        vocabulary=vocabulary,
        left_out=set(table) - set(vocabulary.contiguous_id),
    )
