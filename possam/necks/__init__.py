"""Modules between encoders and decoders: pyramids of feature maps, and SAM's image embedding from CLIP's maps."""

from typing import TYPE_CHECKING

from possam.utils.lazy import lazy_names

from .feature_pyramid import FeaturePyramid
from .last_level_pool import LastLevelPool
from .resampled_pyramid import ResampledPyramid
from .sam2clip import SAM2CLIP

if TYPE_CHECKING:
    from .top_down_pyramid import TopDownPyramid

__all__ = ["SAM2CLIP", "FeaturePyramid", "LastLevelPool", "ResampledPyramid", "TopDownPyramid"]

__getattr__ = lazy_names(__name__, {"TopDownPyramid": ".top_down_pyramid"})  # it extends a class of torchvision
