"""Saving and loading models."""

# ruff: noqa: F401
from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer

from .detection_checkpoint import DetectionCheckpointer

