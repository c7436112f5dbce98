"""Trained models as programs of torch.export and ONNX that run without this package (docs/export.md)."""

from .folder import export_model
from .formats import FORMATS
from .parity import Difference, compare
from .rows import export_classes

__all__ = ["FORMATS", "Difference", "compare", "export_classes", "export_model"]
