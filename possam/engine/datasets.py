"""Makes the datasets a configuration names known to the catalogs, and checks the names before anything loads."""

from __future__ import annotations

import difflib

from possam.d2.config import CfgNode
from possam.d2.data import DatasetCatalog
from possam.data import SegmentationMapper, build_augmentations, register_from_config
from possam.data.datasets import register_datasets
from possam.data.miniature.splits import register_miniature
from possam.vocabulary import Vocabulary


def prepare_datasets(cfg: CfgNode) -> None:
    """Register the project's datasets and those of `DATASETS.PANOPTIC` and `DATASETS.SEMANTIC`.

    Raises:
        ValueError: `DATASETS.TRAIN` or `DATASETS.TEST` names a dataset that is not registered; lists the valid ones.
    """
    register_miniature()
    register_datasets()
    register_from_config(cfg.DATASETS.PANOPTIC, "PANOPTIC")
    register_from_config(cfg.DATASETS.get("SEMANTIC", []), "SEMANTIC")
    known = DatasetCatalog.list()
    for key in ("TRAIN", "TEST"):
        for name in cfg.DATASETS[key]:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=3)
                raise ValueError(
                    f"DATASETS.{key} names the unknown dataset {name!r}; the closest known ones are {close or known}. "
                    "Add your own to DATASETS.PANOPTIC or DATASETS.SEMANTIC."
                )


def build_test_mapper(cfg: CfgNode, vocabulary: Vocabulary) -> SegmentationMapper:
    """The mapper of test time: the whole image, its longer side at `INPUT.IMAGE_SIZE`, and no targets.

    Under test-time augmentation the image has the size of the largest of `TEST.AUG.SCALES`.
    """
    scale = max(cfg.TEST.AUG.SCALES) if cfg.TEST.AUG.ENABLED else 1.0
    return SegmentationMapper(
        augmentations=build_augmentations(image_size=round(cfg.INPUT.IMAGE_SIZE * scale), is_train=False),
        is_train=False,
        vocabulary=vocabulary,
    )
