"""Datasets: registration of the COCO panoptic format, mappers, and the miniature world."""

from possam.data.augmentations import AUGMENTATIONS, ResizeLongestSide, build_augmentations
from possam.data.id_maps import id_to_rgb, read_id_map, rgb_to_id, write_id_map
from possam.data.mapper import FeatureSource, PanopticMapper, read_rgb, sample_key
from possam.data.panoptic import load_panoptic, register_from_config, register_panoptic

__all__ = [
    "AUGMENTATIONS",
    "FeatureSource",
    "PanopticMapper",
    "ResizeLongestSide",
    "build_augmentations",
    "id_to_rgb",
    "load_panoptic",
    "read_id_map",
    "read_rgb",
    "register_from_config",
    "register_panoptic",
    "rgb_to_id",
    "sample_key",
    "write_id_map",
]
