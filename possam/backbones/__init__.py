"""Trained backbones: image in, maps of strides 4, 8, 16 and 32 out, with gradients."""

from typing import TYPE_CHECKING

from possam.backbones.base import TrainedBackbone, backbone_names, build_backbone, check_backbone, register_backbone
from possam.utils.lazy import lazy_names

if TYPE_CHECKING:
    from possam.backbones.resnet import ResNetBackbone
    from possam.backbones.swin import SwinBackbone

__all__ = [
    "ResNetBackbone",
    "SwinBackbone",
    "TrainedBackbone",
    "backbone_names",
    "build_backbone",
    "check_backbone",
    "register_backbone",
]

__getattr__ = lazy_names(__name__, {"ResNetBackbone": ".resnet", "SwinBackbone": ".swin"})
