"""The frozen CLIP image and text encoder."""

from possam.encoders.clip.frozen_clip import FrozenCLIP

__all__ = ["FrozenCLIP"]
