"""From image embeddings to masks with quality estimates."""

from .mask_decoder import MaskDecoder
from .mask_prediction import MaskPrediction
from .pixel_decoder import DeformablePixelDecoder
from .prompt_encoder import PromptEncoder
from .prompted_decoder import PromptedDecoder, PromptedMasks
from .two_way_decoder import TwoWayDecoder

__all__ = [
    "DeformablePixelDecoder",
    "MaskDecoder",
    "MaskPrediction",
    "PromptEncoder",
    "PromptedDecoder",
    "PromptedMasks",
    "TwoWayDecoder",
]
