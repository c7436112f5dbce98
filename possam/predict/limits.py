"""Check whether an image is of the kind that a model was trained on."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.models.state import limits_of

__all__ = ["doubt", "warn_of"]

logger = logging.getLogger(__name__)


def doubt(model: Any, image: NDArray[np.uint8]) -> str:
    """Describe in a sentence why a model's results for an image are meaningless; "" where they are not.

    A model of the miniature world was trained on drawings alone, which have the size of its input.

    Args:
        model: an OpenVocabularySegmenter.
        image: H×W×3.
    """
    return "" if image.shape[:2] == (model.image_size, model.image_size) else limits_of(model)


def warn_of(model: Any, image: NDArray[np.uint8]) -> bool:
    """Log what `doubt` says, if anything; return whether it did."""
    sentence = doubt(model, image)
    if sentence:
        logger.warning(sentence)
    return bool(sentence)
