"""Open-vocabulary panoptic segmentation: an image and any list of names in, a mask and a name for every pixel out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from possam.utils.lazy import lazy_names

if TYPE_CHECKING:
    from possam.models import PosSAM
    from possam.predict.predictor import Predictor
    from possam.vocabulary import Vocabulary

__all__ = ["PosSAM", "Predictor", "Vocabulary"]
__version__ = "0.1.0"

_HOMES = {"PosSAM": ".models", "Predictor": ".predict.predictor", "Vocabulary": ".vocabulary"}
__getattr__ = lazy_names(__name__, _HOMES)  # `import possam` and the command's help need no PyTorch
