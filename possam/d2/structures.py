"""Boxes and instances."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.structures import Boxes, BoxMode, Instances
else:
    from detectron2.structures import Boxes, BoxMode, Instances

__all__ = ["BoxMode", "Boxes", "Instances"]
