"""Datasets, samplers, loaders and image transforms."""

# ruff: noqa: F401
from . import transforms  # isort: skip
from . import detection_utils, samplers
from .build import build_batch_data_loader, build_detection_test_loader, build_detection_train_loader
from .build import get_detection_dataset_dicts as get_detection_dataset_dicts
from .catalog import DatasetCatalog, Metadata, MetadataCatalog
from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, ToIterableDataset
