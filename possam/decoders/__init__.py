"""From image embeddings to masks with quality estimates."""

from typing import TYPE_CHECKING

from possam.utils.lazy import lazy_names

from .mask_decoder import MaskDecoder
from .mask_prediction import MaskPrediction
from .pixel_decoder import DeformablePixelDecoder
from .prompted_decoder import PromptedDecoder, PromptedMasks
from .two_way_decoder import TwoWayDecoder

if TYPE_CHECKING:
    from .prompt_encoder import PromptEncoder

__all__ = [
    "DeformablePixelDecoder",
    "MaskDecoder",
    "MaskPrediction",
    "PromptEncoder",
    "PromptedDecoder",
    "PromptedMasks",
    "TwoWayDecoder",
]

__getattr__ = lazy_names(__name__, {"PromptEncoder": ".prompt_encoder"})  # it extends a class of segment_anything
