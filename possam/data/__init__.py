"""Datasets: what they consist of, their registration and loading, the mapper, and the miniature world."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from possam.data.annotations import read_instances, read_label_map, read_segments
    from possam.data.augmentations import AUGMENTATIONS, ResizeLongestSide, build_augmentations, build_resize
    from possam.data.configured import register_from_config
    from possam.data.id_maps import id_to_rgb, read_id_map, rgb_to_id, write_id_map
    from possam.data.image_labels import load_image_labels, register_image_labels
    from possam.data.instances import load_instances
    from possam.data.mapper import FeatureSource, SegmentationMapper, read_rgb, sample_key
    from possam.data.panoptic import load_panoptic, register_panoptic
    from possam.data.root import datasets_root
    from possam.data.semantic import load_semantic, register_semantic

__all__ = [
    "AUGMENTATIONS",
    "FeatureSource",
    "ResizeLongestSide",
    "SegmentationMapper",
    "build_augmentations",
    "build_resize",
    "datasets_root",
    "id_to_rgb",
    "load_image_labels",
    "load_instances",
    "load_panoptic",
    "load_semantic",
    "read_id_map",
    "read_instances",
    "read_label_map",
    "read_rgb",
    "read_segments",
    "register_from_config",
    "register_image_labels",
    "register_panoptic",
    "register_semantic",
    "rgb_to_id",
    "sample_key",
    "write_id_map",
]

_NAMES = {
    "possam.data.annotations": ("read_instances", "read_label_map", "read_segments"),
    "possam.data.augmentations": ("AUGMENTATIONS", "ResizeLongestSide", "build_augmentations", "build_resize"),
    "possam.data.configured": ("register_from_config",),
    "possam.data.id_maps": ("id_to_rgb", "read_id_map", "rgb_to_id", "write_id_map"),
    "possam.data.image_labels": ("load_image_labels", "register_image_labels"),
    "possam.data.instances": ("load_instances",),
    "possam.data.mapper": ("FeatureSource", "SegmentationMapper", "read_rgb", "sample_key"),
    "possam.data.panoptic": ("load_panoptic", "register_panoptic"),
    "possam.data.root": ("datasets_root",),
    "possam.data.semantic": ("load_semantic", "register_semantic"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: prediction needs neither the mapper nor the datasets.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
