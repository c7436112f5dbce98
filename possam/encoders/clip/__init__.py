"""The frozen CLIP image and text encoder."""

# The towers register themselves.
from possam.encoders.clip import convnext as _convnext  # noqa: F401
from possam.encoders.clip import resnet as _resnet  # noqa: F401
from possam.encoders.clip import timm_vit as _timm_vit  # noqa: F401
from possam.encoders.clip import vit as _vit  # noqa: F401
from possam.encoders.clip.frozen_clip import FrozenCLIP

__all__ = ["FrozenCLIP"]
