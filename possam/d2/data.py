"""Datasets, loaders, and image transforms with their helpers."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.data import (
        DatasetCatalog,
        DatasetFromList,
        MetadataCatalog,
        build_detection_test_loader,
        build_detection_train_loader,
        get_detection_dataset_dicts,
        transforms,
    )
else:
    from detectron2.data import (
        DatasetCatalog,
        DatasetFromList,
        MetadataCatalog,
        build_detection_test_loader,
        build_detection_train_loader,
        get_detection_dataset_dicts,
        transforms,
    )

__all__ = [
    "DatasetCatalog",
    "DatasetFromList",
    "MetadataCatalog",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
    "transforms",
]
