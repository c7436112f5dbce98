"""Saving and loading models."""

from typing import TYPE_CHECKING

from possam.d2 import BACKEND

if TYPE_CHECKING or BACKEND == "builtin":
    from possam.d2._runtime.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
else:
    from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer

__all__ = ["DetectionCheckpointer", "PeriodicCheckpointer"]
