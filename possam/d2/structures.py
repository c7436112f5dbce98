"""Boxes, masks, batches of images, instances."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.structures import BitMasks, Boxes, BoxMode, ImageList, Instances, PolygonMasks, pairwise_iou
else:
    from detectron2.structures import BitMasks, Boxes, BoxMode, ImageList, Instances, PolygonMasks, pairwise_iou

__all__ = ["BitMasks", "BoxMode", "Boxes", "ImageList", "Instances", "PolygonMasks", "pairwise_iou"]
