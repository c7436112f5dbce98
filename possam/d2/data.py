"""Datasets, samplers, loaders, and image transforms (also as `T`) with their helpers (also as `utils`)."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.data import (
        DatasetCatalog,
        DatasetFromList,
        MapDataset,
        Metadata,
        MetadataCatalog,
        build_detection_test_loader,
        build_detection_train_loader,
        detection_utils,
        get_detection_dataset_dicts,
        samplers,
        transforms,
    )
else:
    from detectron2.data import (
        DatasetCatalog,
        DatasetFromList,
        MapDataset,
        Metadata,
        MetadataCatalog,
        build_detection_test_loader,
        build_detection_train_loader,
        detection_utils,
        get_detection_dataset_dicts,
        samplers,
        transforms,
    )

T = transforms
utils = detection_utils

__all__ = [
    "DatasetCatalog",
    "DatasetFromList",
    "MapDataset",
    "Metadata",
    "MetadataCatalog",
    "T",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "detection_utils",
    "get_detection_dataset_dicts",
    "samplers",
    "transforms",
    "utils",
]
