"""Frozen SAM and CLIP image encoders, and a cache of their features."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from possam.encoders.base import FeatureMaps, FrozenEncoder
    from possam.encoders.clip import FrozenCLIP
    from possam.encoders.feature_cache import FeatureCache
    from possam.encoders.sam import FrozenSAM

__all__ = ["FeatureCache", "FeatureMaps", "FrozenCLIP", "FrozenEncoder", "FrozenSAM"]

_HOMES = {
    "FeatureCache": "feature_cache",
    "FeatureMaps": "base",
    "FrozenCLIP": "clip",
    "FrozenEncoder": "base",
    "FrozenSAM": "sam",
}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: the list of weights needs neither PyTorch nor open_clip.
    if name in _HOMES:
        return getattr(import_module(f"possam.encoders.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
