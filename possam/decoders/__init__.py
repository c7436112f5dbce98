"""From a feature pyramid to masks with quality estimates."""

from .mask_decoder import MaskDecoder, MaskPrediction
from .pixel_decoder import DeformablePixelDecoder

__all__ = ["DeformablePixelDecoder", "MaskDecoder", "MaskPrediction"]
