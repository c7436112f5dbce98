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

from ...structures import Boxes, pairwise_iou
from .augmentation import Augmentation, _transform_to_aug
from .transform import ExtentTransform, ResizeTransform, RotationTransform

__all__ = [
    "FixedSizeCrop",
    "MinIoURandomCrop",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomLighting",
    "RandomResize",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
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
        self,
        short_edge_length: Any,
        max_size: int = sys.maxsize,
        sample_style: str = "range",
        interp: int = _BILINEAR,
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
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
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


class RandomRotation(Augmentation):
    """Rotate by a random angle around a random centre."""

    def __init__(
        self,
        angle: Any,
        expand: bool = True,
        center: Any = None,
        sample_style: str = "range",
        interp: int | None = None,
    ):
        """
        Args:
            angle: degrees: (min, max) with "range", a list with "choice", or one number.
            expand: enlarge the result so that nothing is lost.
            center: relative (x, y), (0, 0) top left and (1, 1) bottom right: two of them with "range", a list with
                "choice", or one; None is the middle.
            sample_style: "range" or "choice".
            interp: an OpenCV interpolation.
        """
        super().__init__()
        assert sample_style in ("range", "choice"), sample_style
        self.is_range = sample_style == "range"
        if isinstance(angle, (float, int)):
            angle = (angle, angle)
        if center is not None and isinstance(center[0], (float, int)):
            center = (center, center)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        centre = None
        angle = np.random.uniform(*self.angle) if self.is_range else np.random.choice(self.angle)
        if self.center is not None and self.is_range:
            (left, top), (right, bottom) = self.center
            centre = (np.random.uniform(left, right) * width, np.random.uniform(top, bottom) * height)
        elif self.center is not None:
            x, y = self.center[np.random.randint(len(self.center))]
            centre = (x * width, y * height)
        if angle % 360 == 0:
            return NoOpTransform()
        return RotationTransform(height, width, angle, expand=self.expand, center=centre, interp=self.interp)


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


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """A `RandomCrop` retried up to ten times until no class of ``sem_seg`` fills more than a share of the window."""

    def __init__(
        self,
        crop_type: str,
        crop_size: Any,
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ):
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        for _ in range(10):
            crop = self.crop_aug.get_transform(sem_seg)
            labels, counts = np.unique(crop.apply_segmentation(sem_seg), return_counts=True)
            if self.ignored_category is not None:
                counts = counts[labels != self.ignored_category]
            if len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area:
                break
        return crop


class RandomExtent(Augmentation):
    """Cut a rectangle of a random scale, shifted by a random share of the image's size; it may reach outside."""

    def __init__(self, scale_range: Any, shift_range: Any):
        """``scale_range`` is (least, most) of the image's size, ``shift_range`` the largest (x, y) shift, doubled."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        size = np.array([image.shape[1], image.shape[0]], dtype=float)
        half = size / 2 * np.random.uniform(*self.scale_range)
        shift = [reach * (np.random.rand() - 0.5) for reach in self.shift_range]
        centre = size / 2 + shift * size
        (x0, y0), (x1, y1) = centre - half, centre + half
        return ExtentTransform(src_rect=(x0, y0, x1, y1), output_size=(int(y1 - y0), int(x1 - x0)))


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
        self.eigen_vecs = np.array(
            [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
        )
        self.eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def get_transform(self, image: np.ndarray) -> Transform:
        assert image.shape[-1] == 3, f"RandomLighting takes RGB images, but the shape is {image.shape}"
        noise = np.random.normal(scale=self.scale, size=3) * self.eigen_vals
        return BlendTransform(src_image=self.eigen_vecs @ noise, src_weight=1.0, dst_weight=1.0)


class RandomResize(Augmentation):
    """Resize to one of a list of (height, width)."""

    def __init__(self, shape_list: list[tuple[int, int]], interp: int = _BILINEAR):
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = self.shape_list[np.random.randint(low=0, high=len(self.shape_list))]
        return ResizeTransform(image.shape[0], image.shape[1], height, width, self.interp)


class MinIoURandomCrop(Augmentation):
    """SSD's crop: keep the image, or find a window that overlaps every box at least so much."""

    def __init__(
        self,
        min_ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ):
        """
        Args:
            min_ious: overlaps to choose from, besides "any" and "keep the image".
            min_crop_size: least share of height and width.
            mode_trials: how many overlaps to try.
            crop_trials: how many windows to try for each.
        """
        self._init(locals())
        self.sample_mode = (1, *min_ious, 0)

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None) -> Transform:
        if boxes is None:
            return NoOpTransform()
        for _ in range(self.mode_trials):
            least_iou = np.random.choice(self.sample_mode)
            if least_iou == 1:
                return NoOpTransform()
            for _ in range(self.crop_trials):
                window = self._window(*image.shape[:2])
                if window is not None and self._accepts(window, boxes.reshape(-1, 4), least_iou):
                    left, top, right, bottom = window[:4]
                    return CropTransform(left, top, right - left, bottom - top)
        return NoOpTransform()

    def _window(self, height: int, width: int) -> np.ndarray | None:
        crop_width = np.random.uniform(self.min_crop_size * width, width)
        crop_height = np.random.uniform(self.min_crop_size * height, height)
        if not 0.5 <= crop_height / crop_width <= 2:
            return None
        left, top = np.random.uniform(0, width - crop_width), np.random.uniform(0, height - crop_height)
        window = np.array([left, top, left + crop_width, top + crop_height]).astype(int)
        return window if (window[2:] > window[:2]).all() else None

    @staticmethod
    def _accepts(window: np.ndarray, boxes: np.ndarray, least_iou: float) -> bool:
        if len(boxes) == 0:
            return True
        overlaps = pairwise_iou(Boxes(torch.from_numpy(window[None])), Boxes(torch.as_tensor(boxes)))
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centres > window[:2]) & (centres < window[2:])).all(axis=1)
        return bool(overlaps.min() >= least_iou) and bool(inside.any())
