"""The frozen eyes: SAM's and CLIP's image encoders, and a cache of what they see."""

from possam.encoders.clip import FrozenCLIP
from possam.encoders.feature_cache import FeatureCache
from possam.encoders.sam import FrozenSAM

__all__ = ["FeatureCache", "FrozenCLIP", "FrozenSAM"]
