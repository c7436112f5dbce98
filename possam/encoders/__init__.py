"""Frozen SAM and CLIP image encoders, and a cache of their features."""

from possam.encoders.base import FeatureMaps, FrozenEncoder
from possam.encoders.clip import FrozenCLIP
from possam.encoders.feature_cache import FeatureCache
from possam.encoders.sam import FrozenSAM

__all__ = ["FeatureCache", "FeatureMaps", "FrozenCLIP", "FrozenEncoder", "FrozenSAM"]
