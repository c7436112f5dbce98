"""The field's datasets, one file each: what they consist of, and their registration in the catalogs."""

from possam.data.datasets.spec import DatasetSpec, InstanceFiles, PanopticFiles, SemanticFiles

__all__ = ["DatasetSpec", "InstanceFiles", "PanopticFiles", "SemanticFiles"]
