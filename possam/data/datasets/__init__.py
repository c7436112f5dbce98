"""The field's datasets, one file each: what they consist of, and their registration in the catalogs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from possam.data.datasets.ade20k import ADE20K
from possam.data.datasets.ade20k_full import ADE20K_FULL
from possam.data.datasets.cityscapes import CITYSCAPES
from possam.data.datasets.coco import COCO
from possam.data.datasets.lvis import LVIS
from possam.data.datasets.mapillary import MAPILLARY
from possam.data.datasets.pascal_context import PASCAL_CONTEXT
from possam.data.datasets.pascal_voc import PASCAL_VOC
from possam.data.datasets.records import load_records
from possam.data.datasets.registration import register_specs
from possam.data.datasets.spec import DatasetSpec, InstanceFiles, PanopticFiles, SemanticFiles
from possam.utils.messages import did_you_mean

__all__ = [
    "SPECS",
    "DatasetSpec",
    "InstanceFiles",
    "PanopticFiles",
    "SemanticFiles",
    "find_spec",
    "load_records",
    "register_datasets",
    "use_class_names",
]

_ALL = (*COCO, *ADE20K, *ADE20K_FULL, *PASCAL_CONTEXT, *PASCAL_VOC, *CITYSCAPES, *MAPILLARY, *LVIS)
SPECS: dict[str, DatasetSpec] = {spec.name: spec for spec in _ALL}


def find_spec(name: str) -> DatasetSpec:
    """The dataset of this name.

    Raises:
        ValueError: there is none; lists the names.
    """
    if name not in SPECS:
        raise ValueError(f"unknown dataset {name!r}; the datasets are {list(SPECS)}.{did_you_mean(name, SPECS)}")
    return SPECS[name]


def register_datasets(root: str | Path | None = None) -> list[str]:
    """Register all datasets and return their names (see `register_specs`, which also says what `root` is)."""
    return register_specs(tuple(SPECS.values()), root)


def use_class_names(names: Iterable[str], class_names: str) -> None:
    """Register those of these datasets that are described here with class names of another source.

    Args:
        names: of datasets; others, such as a user's own, keep their class names.
        class_names: the source (`possam.vocabulary.published.published_vocabulary`).

    Raises:
        ValueError, FileNotFoundError: the names of one cannot be had.
    """
    register_specs(tuple(SPECS[name] for name in dict.fromkeys(names) if name in SPECS), class_names=class_names)
