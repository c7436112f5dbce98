"""The ready-made policies. Each draws from NumPy's global generator, in the order Detectron2's draw."""

import numpy as np
from fvcore.transforms.transform import (
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    Transform,
    TransformList,
    VFlipTransform,
)
from PIL import Image

from .augmentation import Augmentation
from .transform import ResizeTransform

__all__ = ["FixedSizeCrop", "RandomFlip", "ResizeScale"]

_BILINEAR = Image.Resampling.BILINEAR


class RandomFlip(Augmentation):
    """Mirror left and right, or top and bottom, with probability ``prob``."""

    def __init__(self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False):
        super().__init__()
        if horizontal == vertical:
            raise ValueError(f"choose one of horizontal and vertical; both are {horizontal}. For both use two flips.")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        height, width = image.shape[:2]
        return HFlipTransform(width) if self.horizontal else VFlipTransform(height)


class ResizeScale(Augmentation):
    """Large-scale jitter: fit the image into the target size times a random scale, keeping its aspect ratio."""

    def __init__(
        self, min_scale: float, max_scale: float, target_height: int, target_width: int, interp: int = _BILINEAR
    ):
        super().__init__()
        self._init(locals())

    def _get_resize(self, image: np.ndarray, scale: float) -> Transform:
        size = np.array(image.shape[:2])
        fit = np.min(np.array([self.target_height, self.target_width]) * scale / size)
        height, width = (int(side) for side in np.round(size * fit))
        return ResizeTransform(size[0], size[1], height, width, self.interp)

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))


class FixedSizeCrop(Augmentation):
    """Crop a window of fixed size where the image is larger, and pad right and below where it is smaller."""

    def __init__(
        self, crop_size: tuple[int, int], pad: bool = True, pad_value: float = 128.0, seg_pad_value: int = 255
    ):
        """
        Args:
            crop_size: height and width.
            pad: False leaves small images small.
            pad_value: fills padded image pixels.
            seg_pad_value: fills padded label pixels.
        """
        super().__init__()
        self._init(locals())

    def _get_crop(self, image: np.ndarray) -> Transform:
        size, target = np.array(image.shape[:2]), np.array(self.crop_size)
        room = np.maximum(size - target, 0)
        top, left = np.round(room * np.random.uniform(0.0, 1.0)).astype(int)
        return CropTransform(left, top, target[1], target[0], size[1], size[0])

    def _get_pad(self, image: np.ndarray) -> Transform:
        size, target = np.array(image.shape[:2]), np.array(self.crop_size)
        below, right = np.maximum(target - size, 0)
        height, width = np.minimum(size, target)
        return PadTransform(0, 0, right, below, width, height, self.pad_value, self.seg_pad_value)

    def get_transform(self, image: np.ndarray) -> TransformList:
        steps = [self._get_crop(image)]
        if self.pad:
            steps.append(self._get_pad(image))
        return TransformList(steps)
