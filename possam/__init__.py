"""Open-vocabulary panoptic segmentation: an image and any list of names in, a mask and a name for every pixel out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from possam.models import PosSAM
    from possam.predict.predictor import Predictor
    from possam.vocabulary import Vocabulary

__all__ = ["PosSAM", "Predictor", "Vocabulary"]
__version__ = "0.1.0"

_HOMES = {"PosSAM": "possam.models", "Predictor": "possam.predict.predictor", "Vocabulary": "possam.vocabulary"}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: `import possam` and the command's help need no PyTorch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
