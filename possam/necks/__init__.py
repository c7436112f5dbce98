"""Modules between encoders and decoders: feature maps in, maps of strides 4, 8, 16 and 32 out."""

from .feature_pyramid import FeaturePyramid
from .last_level_pool import LastLevelPool
from .resampled_pyramid import ResampledPyramid

__all__ = ["FeaturePyramid", "LastLevelPool", "ResampledPyramid"]
