"""Trained models as programs of torch.export and ONNX that run without this package (docs/export.md)."""

from .folder import CLASSES, DESCRIPTION, export_model
from .formats import FORMATS, check_formats
from .parity import Difference, compare
from .rows import export_classes, vocabulary_arrays

__all__ = [
    "CLASSES",
    "DESCRIPTION",
    "FORMATS",
    "Difference",
    "check_formats",
    "compare",
    "export_classes",
    "export_model",
    "vocabulary_arrays",
]
