"""Modules between encoders and decoders: pyramids of feature maps, and SAM's image embedding from CLIP's maps."""

from .feature_pyramid import FeaturePyramid
from .last_level_pool import LastLevelPool
from .resampled_pyramid import ResampledPyramid
from .sam2clip import SAM2CLIP
from .top_down_pyramid import TopDownPyramid

__all__ = ["SAM2CLIP", "FeaturePyramid", "LastLevelPool", "ResampledPyramid", "TopDownPyramid"]
