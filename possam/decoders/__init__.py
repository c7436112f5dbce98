"""From SAM's features to masks with quality estimates."""

from .mask_decoder import MaskDecoder
from .mask_prediction import MaskPrediction
from .pixel_decoder import DeformablePixelDecoder
from .two_way_decoder import TwoWayDecoder

__all__ = ["DeformablePixelDecoder", "MaskDecoder", "MaskPrediction", "TwoWayDecoder"]
