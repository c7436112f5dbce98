"""Datasets: what they consist of, their registration and loading, the mapper, and the miniature world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from possam.utils.lazy import lazy_names

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

_HOMES = {
    ".annotations": ("read_instances", "read_label_map", "read_segments"),
    ".augmentations": ("AUGMENTATIONS", "ResizeLongestSide", "build_augmentations", "build_resize"),
    ".configured": ("register_from_config",),
    ".id_maps": ("id_to_rgb", "read_id_map", "rgb_to_id", "write_id_map"),
    ".image_labels": ("load_image_labels", "register_image_labels"),
    ".instances": ("load_instances",),
    ".mapper": ("FeatureSource", "SegmentationMapper", "read_rgb", "sample_key"),
    ".panoptic": ("load_panoptic", "register_panoptic"),
    ".root": ("datasets_root",),
    ".semantic": ("load_semantic", "register_semantic"),
}
# Prediction needs neither the mapper nor the datasets.
__getattr__ = lazy_names(__name__, {name: module for module, names in _HOMES.items() for name in names})
