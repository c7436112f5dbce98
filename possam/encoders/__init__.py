"""Frozen SAM and CLIP image encoders, and a cache of their features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from possam.utils.lazy import lazy_names

if TYPE_CHECKING:
    from possam.encoders.base import FeatureMaps, FrozenEncoder
    from possam.encoders.clip import FrozenCLIP
    from possam.encoders.feature_cache import FeatureCache
    from possam.encoders.sam import FrozenSAM

__all__ = ["FeatureCache", "FeatureMaps", "FrozenCLIP", "FrozenEncoder", "FrozenSAM"]

# The list of weights needs neither PyTorch nor open_clip.
__getattr__ = lazy_names(
    __name__,
    {
        "FeatureCache": ".feature_cache",
        "FeatureMaps": ".base",
        "FrozenCLIP": ".clip",
        "FrozenEncoder": ".base",
        "FrozenSAM": ".sam",
    },
)
