"""The ready-made policies. Each draws from NumPy's global generator, in the order Detectron2's draw."""

import sys
from typing import Any

import numpy as np
import torch
from fvcore.transforms.transform import (
    BlendTransform,
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    Transform,
    TransformList,
    VFlipTransform,
)
from PIL import Image

from .augmentation import Augmentation, _transform_to_aug
from .transform import ResizeTransform

__all__ = [
    "FixedSizeCrop", "RandomApply", "RandomBrightness", "RandomContrast", "RandomCrop", "RandomFlip",
    "RandomLighting", "RandomSaturation", "Resize", "ResizeScale", "ResizeShortestEdge",
]

_BILINEAR = Image.Resampling.BILINEAR


class RandomApply(Augmentation):
    """Do something with probability ``prob``, else nothing."""

    def __init__(self, tfm_or_aug: Transform | Augmentation, prob: float = 0.5):
        assert 0.0 <= prob <= 1.0, f"prob must lie in [0, 1], but it is {prob}"
        super().__init__()
        self.aug = _transform_to_aug(tfm_or_aug)
        self.prob = prob

    def get_transform(self, *args: Any) -> Transform:
        return self.aug.get_transform(*args) if self._rand_range() < self.prob else NoOpTransform()

    def __call__(self, aug_input: Any) -> Transform:
        return self.aug(aug_input) if self._rand_range() < self.prob else NoOpTransform()


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


class Resize(Augmentation):
    """Resize to ``shape``: (height, width), or one side for both."""

    def __init__(self, shape: Any, interp: int = _BILINEAR):
        shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        return ResizeTransform(image.shape[0], image.shape[1], self.shape[0], self.shape[1], self.interp)


class ResizeShortestEdge(Augmentation):
    """Resize so that the shorter side gets a chosen length, unless the longer one would exceed ``max_size``."""

    @torch.jit.unused
    def __init__(
        self, short_edge_length: Any, max_size: int = sys.maxsize, sample_style: str = "range", interp: int = _BILINEAR
    ):
        """
        Args:
            short_edge_length: (min, max) to draw from with "range", a list to choose from with "choice", or an int;
                a drawn 0 leaves the image as it is.
            max_size: the most the longer side may get.
            sample_style: "range" or "choice".
            interp: a PIL filter.
        """
        super().__init__()
        assert sample_style in ("range", "choice"), sample_style
        self.is_range = sample_style == "range"
        short_edge_length = (short_edge_length,) * 2 if isinstance(short_edge_length, int) else short_edge_length
        if self.is_range:
            assert len(short_edge_length) == 2, f"a range is (min, max), but {short_edge_length} came"
        self._init(locals())

    @torch.jit.unused
    def get_transform(self, image):  # TorchScript would compile annotated types even here
        if self.is_range:
            size = np.random.randint(self.short_edge_length[0], self.short_edge_length[1] + 1)
        else:
            size = np.random.choice(self.short_edge_length)
        if size == 0:
            return NoOpTransform()
        height, width = image.shape[:2]
        return ResizeTransform(height, width, *self.get_output_shape(height, width, size, self.max_size), self.interp)

    @staticmethod
    def get_output_shape(oldh: int, oldw: int, short_edge_length: int, max_size: int) -> tuple[int, int]:
        """(height, width) after the resize; TorchScript can compile it."""
        scale = short_edge_length * 1.0 / min(oldh, oldw)
        # The shorter side is set rather than computed, so that rounding cannot miss it.
        newh = short_edge_length * 1.0 if oldh < oldw else scale * oldh
        neww = scale * oldw if oldh < oldw else short_edge_length * 1.0
        longest = max(newh, neww)
        if longest > max_size:
            shrink = max_size * 1.0 / longest
            newh, neww = newh * shrink, neww * shrink
        return int(newh + 0.5), int(neww + 0.5)


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


class RandomCrop(Augmentation):
    """Crop a window at a random place.

    ``crop_type`` says what the pair ``crop_size`` means: "relative", fractions of height and width;
    "relative_range", the least such fractions, the most being 1; "absolute", height and width in pixels;
    "absolute_range", least and most pixels, drawn for each side.
    """

    def __init__(self, crop_type: str, crop_size: Any):
        super().__init__()
        known = ("relative_range", "relative", "absolute", "absolute_range")
        assert crop_type in known, f"crop_type must be one of {known}, but it is '{crop_type}'"
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        crop_height, crop_width = self.get_crop_size((height, width))
        assert crop_height <= height and crop_width <= width, (self, image.shape)
        top = np.random.randint(height - crop_height + 1)
        left = np.random.randint(width - crop_width + 1)
        return CropTransform(left, top, crop_width, crop_height)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the window for an image of (height, width)."""
        sides = np.array(image_size)
        if self.crop_type == "absolute":
            return tuple(np.minimum(self.crop_size, sides).tolist())
        if self.crop_type == "absolute_range":
            least, most = self.crop_size
            assert least <= most, self.crop_size
            height, width = (np.random.randint(min(side, least), min(side, most) + 1) for side in image_size)
            return height, width
        fraction: Any = self.crop_size
        if self.crop_type == "relative_range":
            least = np.asarray(fraction, dtype=np.float32)
            fraction = least + np.random.rand(2) * (1 - least)
        height, width = (int(side * part + 0.5) for side, part in zip(image_size, fraction, strict=True))
        return height, width


class RandomContrast(Augmentation):
    """Blend with the image's mean: below 1 flattens, above 1 strengthens."""

    def __init__(self, intensity_min: float, intensity_max: float):
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=image.mean(), src_weight=1 - weight, dst_weight=weight)


class RandomBrightness(Augmentation):
    """Blend with black: below 1 darkens, above 1 brightens."""

    def __init__(self, intensity_min: float, intensity_max: float):
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=0, src_weight=1 - weight, dst_weight=weight)


class RandomSaturation(Augmentation):
    """Blend an RGB image with its grey version: below 1 pales, above 1 colours."""

    def __init__(self, intensity_min: float, intensity_max: float):
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        assert image.shape[-1] == 3, f"RandomSaturation takes RGB images, but the shape is {image.shape}"
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        grey = (image @ np.array([0.299, 0.587, 0.114]))[..., None]  # luma of ITU-R BT.601
        return BlendTransform(src_image=grey, src_weight=1 - weight, dst_weight=weight)


class RandomLighting(Augmentation):
    """AlexNet's colour noise along the principal components of ImageNet's RGB values."""

    def __init__(self, scale: float):
        """``scale`` is the standard deviation of the noise; for uint8 images multiply AlexNet's by 255."""
        super().__init__()
        self._init(locals())
        self.eigen_vecs = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
        self.eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def get_transform(self, image: np.ndarray) -> Transform:
        assert image.shape[-1] == 3, f"RandomLighting takes RGB images, but the shape is {image.shape}"
        noise = np.random.normal(scale=self.scale, size=3) * self.eigen_vals
        return BlendTransform(src_image=self.eigen_vecs @ noise, src_weight=1.0, dst_weight=1.0)
