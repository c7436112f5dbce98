"""Makes the datasets a configuration names known to the catalogs, and checks the names before anything loads."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from possam.d2.config import CfgNode
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import FeatureSource, SegmentationMapper, build_augmentations, register_from_config
from possam.data.catalog import IMAGE_LABELS
from possam.data.datasets import register_datasets, use_class_names
from possam.data.instance_prompts import EvaluationPromptMapper
from possam.data.miniature.splits import register_miniature
from possam.data.prompts import PromptMapper, PromptSampler
from possam.models import model_spec
from possam.models.parts import shortest_edge_from_config
from possam.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


def prepare_datasets(cfg: CfgNode) -> None:
    """Register the project's datasets and those of `DATASETS.PANOPTIC`, `DATASETS.SEMANTIC`,
    `DATASETS.UNNAMED` and `DATASETS.IMAGE_LABELS`.

    Those of `DATASETS.TRAIN` and `DATASETS.TEST` get the class names of `DATASETS.CLASS_NAMES`.

    Raises:
        ValueError: `DATASETS.TRAIN` or `DATASETS.TEST` names a dataset that is not registered; lists the valid ones. Or
            the class names cannot be used.
        FileNotFoundError: there are no such class names.
    """
    register_miniature()
    register_datasets()
    if cfg.DATASETS.CLASS_NAMES:
        use_class_names([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST], cfg.DATASETS.CLASS_NAMES)
    register_from_config(cfg.DATASETS.PANOPTIC, "PANOPTIC")
    register_from_config(cfg.DATASETS.get("SEMANTIC", []), "SEMANTIC")
    register_from_config(cfg.DATASETS.get("UNNAMED", []), "UNNAMED")
    register_from_config(cfg.DATASETS.get("IMAGE_LABELS", []), "IMAGE_LABELS")
    known = DatasetCatalog.list()
    for key in ("TRAIN", "TEST"):
        for name in cfg.DATASETS[key]:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=3)
                raise ValueError(
                    f"DATASETS.{key} names the unknown dataset {name!r}; the closest known ones are {close or known}. "
                    "Add your own to DATASETS.PANOPTIC, DATASETS.SEMANTIC or DATASETS.IMAGE_LABELS."
                )


def check_sources(cfg: CfgNode) -> dict[str, Vocabulary]:
    """The vocabulary of every dataset of `DATASETS.TRAIN`, and `MODEL.TRAIN_VOCABULARY` where it is set, by its name.

    Datasets may have different vocabularies: each keeps its own, and that of the first is the training vocabulary.

    Raises:
        ValueError: `MODEL.TRAIN_VOCABULARY` has other classes than the first dataset (`Vocabulary.difference`); the
            first dataset has no masks; there are not as many weights as datasets; or the system takes prompts, so that
            it can learn neither from image labels nor in several vocabularies.
    """
    names, weights = list(cfg.DATASETS.TRAIN), list(cfg.DATASETS.TRAIN_WEIGHTS)
    found = {name: MetadataCatalog.get(name).vocabulary for name in names}
    if weights and len(weights) != len(names):
        raise ValueError(
            f"DATASETS.TRAIN_WEIGHTS has {len(weights)} numbers, but DATASETS.TRAIN {len(names)} datasets; give one "
            "for each, or none, so that all images are drawn equally often."
        )
    prompts = model_spec(cfg.MODEL.META_ARCHITECTURE).prompts
    for name in names[1:]:
        if difference := found[names[0]].difference(found[name]):
            if prompts and not has_image_labels(name):
                raise ValueError(
                    f"DATASETS.TRAIN must share one vocabulary for {cfg.MODEL.META_ARCHITECTURE}, which makes masks of "
                    f"prompts, but {names[0]} and {name} differ: {difference}. Give all of them one, or train on them "
                    "one by one."
                )
            logger.info("%s and %s keep a vocabulary each: %s.", names[0], name, difference)
    labeled = [name for name in names if has_image_labels(name)]
    if labeled and len(labeled) == len(names):
        raise ValueError(
            f"DATASETS.TRAIN is {names}, which have image labels and no masks, so that no mask would be learned; put a "
            "dataset with masks before them."
        )
    if labeled and labeled[0] == names[0]:
        raise ValueError(
            f"DATASETS.TRAIN begins with {names[0]}, which has image labels and no masks; put a dataset with masks "
            "first: its classes are the training vocabulary."
        )
    if labeled and prompts:
        raise ValueError(
            f"DATASETS.TRAIN has {labeled[0]}, which has image labels and no masks, from which "
            f"{cfg.MODEL.META_ARCHITECTURE} cannot learn, since it makes masks of prompts; leave it out."
        )
    if cfg.MODEL.TRAIN_VOCABULARY:
        vocabulary = Vocabulary.load(cfg.MODEL.TRAIN_VOCABULARY)
        if names and (difference := found[names[0]].difference(vocabulary)):
            raise ValueError(
                f"MODEL.TRAIN_VOCABULARY must have the classes of the first dataset of DATASETS.TRAIN, but {names[0]} "
                f"and it differ: {difference}. Leave it empty, or put the dataset with its classes first."
            )
        found["MODEL.TRAIN_VOCABULARY"] = vocabulary
    return found


def has_image_labels(name: str) -> bool:
    """Whether a dataset has class labels of images and no masks."""
    return IMAGE_LABELS in getattr(MetadataCatalog.get(name), "tasks", ())  # which others do not register


def check_queries(cfg: CfgNode, records: Sequence[Mapping[str, Any]]) -> None:
    """Warn where training images have more segments than the model has queries: those beyond it teach it nothing.

    Label maps do not say in their records how many classes an image shows; the loss tells of those.
    """
    if model_spec(cfg.MODEL.META_ARCHITECTURE).prompts:
        return
    queries, counts = _queries(cfg), _segment_counts(records)
    if many := sum(count > queries for count in counts):
        logger.warning(
            "%d of %d training images have more segments than the %d queries of MODEL.MASK_FORMER.NUM_OBJECT_QUERIES, "
            "at most %d: in each of them only %d segments are learned at a step, and no more can be predicted. Set "
            "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES %d, or train on smaller parts of the images.",
            *(many, len(counts), queries, max(counts), queries, max(counts)),
        )


def check_test_queries(cfg: CfgNode, name: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Warn where images of a test set have more segments than the model has queries: those beyond it are missed."""
    if model_spec(cfg.MODEL.META_ARCHITECTURE).prompts:
        return
    queries, counts = _queries(cfg), _segment_counts(records)
    if many := sum(count > queries for count in counts):
        logger.warning(
            "%s: %d of %d images have more segments than the %d queries of MODEL.MASK_FORMER.NUM_OBJECT_QUERIES, at "
            "most %d; those beyond it cannot be found, and count as missed.",
            *(name, many, len(counts), queries, max(counts)),
        )


def _queries(cfg: CfgNode) -> float:
    """The segments that a system can find in an image."""
    queries: float = cfg.MODEL.MASK_FORMER.get("NUM_OBJECT_QUERIES", math.inf)
    return queries


def _segment_counts(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Segments of every image that are to be found, by its record."""
    segments = (record.get("segments_info", record.get("annotations", ())) for record in records)
    return [sum(not segment.get("iscrowd") for segment in image) for image in segments]


def build_train_mapper(cfg: CfgNode, name: str, cache: FeatureSource | None) -> SegmentationMapper:
    """The mapper of a training dataset: augmented images with targets, and prompts for a system that takes them."""
    metadata = MetadataCatalog.get(name)
    options: dict[str, Any] = {
        "augmentations": build_augmentations(
            image_size=cfg.INPUT.IMAGE_SIZE,
            is_train=True,
            mode=cfg.INPUT.AUGMENTATION,
            min_scale=cfg.INPUT.MIN_SCALE,
            max_scale=cfg.INPUT.MAX_SCALE,
        ),
        "vocabulary": metadata.vocabulary,
        "ignore_label": metadata.ignore_label,
        "feature_cache": cache,
    }
    if model_spec(cfg.MODEL.META_ARCHITECTURE).prompts:
        keys = {"prompts": "NUM_PROMPTS", "boxes": "NUM_BOX_PROMPTS"}
        numbers = {name: cfg.INPUT[key] for name, key in keys.items() if key in cfg.INPUT}
        return PromptMapper(sampler=PromptSampler(**numbers), **options)
    return SegmentationMapper(is_train=True, **options)


def build_test_mapper(
    cfg: CfgNode, vocabulary: Vocabulary, prompt_options: Mapping[str, Any] | None = None
) -> SegmentationMapper:
    """The mapper of test time: the whole image, resized as `INPUT.RESIZE_TEST` says, and no targets.

    Under test-time augmentation the image has the size of the largest of `TEST.AUG.SCALES`. With `prompt_options`, of
    `possam.engine.prompted.prompt_options`, it gives prompts, too.
    """
    scale = max(cfg.TEST.AUG.SCALES) if cfg.TEST.AUG.ENABLED else 1.0
    augmentations = build_augmentations(
        image_size=round(cfg.INPUT.IMAGE_SIZE * scale),
        shortest_edge=shortest_edge_from_config(cfg, scale),
        is_train=False,
    )
    if prompt_options is not None:
        return EvaluationPromptMapper(augmentations=augmentations, vocabulary=vocabulary, **prompt_options)
    return SegmentationMapper(augmentations=augmentations, is_train=False, vocabulary=vocabulary)
