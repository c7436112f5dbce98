"""Datasets, samplers, loaders and image transforms."""

# ruff: noqa: F401
from . import transforms  # isort: skip
from .build import build_detection_test_loader, build_detection_train_loader, get_detection_dataset_dicts
from .catalog import DatasetCatalog, MetadataCatalog
from .common import DatasetFromList
