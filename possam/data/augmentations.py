"""How images are resized, cropped and flipped on their way into a model, and what was done to one of them."""

from collections.abc import Callable

import numpy as np
import torch
from fvcore.transforms.transform import (
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    Transform,
    TransformList,
)
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from possam.d2.data import transforms as T
from possam.utils.messages import did_you_mean

__all__ = [
    "AUGMENTATIONS",
    "LargeScaleJitter",
    "ResizeLongestSide",
    "ResizeShortestSide",
    "ResizedCrop",
    "build_augmentations",
    "build_resize",
    "whole_image",
]


class ResizeLongestSide(T.Augmentation):  # type: ignore[misc]
    """Scale an image so that its longer side has `length` pixels, up or down: SAM's own preparation."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def get_transform(self, image: NDArray[np.generic]) -> Transform:
        height, width = image.shape[:2]
        scale = self.length / max(height, width)
        new_height, new_width = (max(1, int(side * scale + 0.5)) for side in (height, width))
        return T.ResizeTransform(height, width, new_height, new_width)


class ResizeShortestSide(T.Augmentation):  # type: ignore[misc]
    """Scale an image to `length` pixels at its shorter side, or fewer where its longer side would exceed `longest`.

    Sizes are rounded, and pixels computed, as by Detectron2's ResizeShortestEdge.
    """

    def __init__(self, length: int, longest: int) -> None:
        super().__init__()
        self.length, self.longest = length, longest

    def get_transform(self, image: NDArray[np.generic]) -> Transform:
        height, width = image.shape[:2]
        scale = self.length / min(height, width)
        # The shorter side is `length` itself: the product may be rounded to another number.
        size = (float(self.length), scale * width) if height < width else (scale * height, float(self.length))
        if max(size) > self.longest:
            shrink = self.longest / max(size)
            size = size[0] * shrink, size[1] * shrink
        new_height, new_width = (max(1, int(side + 0.5)) for side in size)
        return T.ResizeTransform(height, width, new_height, new_width)


def build_resize(image_size: int, shortest_edge: tuple[int, int] | None = None) -> T.Augmentation:
    """The resize of test time, of datasets and of single images alike.

    Args:
        image_size: length of the longer side in pixels.
        shortest_edge: instead of it (length of the shorter side, most that the longer side may have) in pixels.
    """
    return ResizeShortestSide(*shortest_edge) if shortest_edge else ResizeLongestSide(image_size)


class ResizedCrop(Transform):  # type: ignore[misc]
    """A resize and then a crop, without making the columns that the crop leaves out.

    Of segmentations exactly what the two transforms give. Images are resized by PyTorch, in an eighth of Pillow's time,
    whose bytes differ in one pixel of a thousand, by one gray level (by up to two where new and old size are in a
    ratio like 4:5).
    """

    def __init__(self, resize: T.ResizeTransform, crop: CropTransform) -> None:
        super().__init__()
        self.resize, self.crop = resize, crop
        self.right, self.bottom = min(crop.x0 + crop.w, resize.new_w), min(crop.y0 + crop.h, resize.new_h)
        # Kept, since there may be many segmentations of one image.
        self.rows = _nearest(resize.h, resize.new_h)[crop.y0 : self.bottom]
        self.columns = _nearest(resize.w, resize.new_w)[crop.x0 : self.right]

    def apply_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """H×W×3 uint8 to as much."""
        # Both libraries resize the rows first and round: cropped between the two steps, the numbers are the same.
        rows = _interpolate(image, (self.resize.h, self.resize.new_w))[:, self.crop.x0 : self.right]
        return _interpolate(rows, (self.resize.new_h, rows.shape[1]))[self.crop.y0 : self.bottom]

    def apply_segmentation(self, segmentation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """H×W uint8 to as much."""
        return segmentation.take(self.columns, axis=1).take(self.rows, axis=0)

    def apply_coords(self, coords: NDArray[np.floating]) -> NDArray[np.floating]:
        return self.crop.apply_coords(self.resize.apply_coords(coords))


def _interpolate(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    # The batch dimension comes before the permutation, else PyTorch does not see that the channels are last: its steps
    # over interleaved colors take half the time of those over planes, and less.
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W")))[None].permute(0, 3, 1, 2)
    return interpolate(pixels, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


def _nearest(old: int, new: int) -> NDArray[np.int32]:
    """Which of `old` pixels in a row Pillow takes for each of `new` ones."""
    row = Image.fromarray(np.arange(old, dtype=np.int32)[None])
    return np.asarray(row.resize((new, 1), Image.Resampling.NEAREST))[0]


class LargeScaleJitter(T.Augmentation):  # type: ignore[misc]
    """METHOD.md 1, training recipe: with the same draws what Detectron2's ResizeScale and FixedSizeCrop do.

    A small image stays small: the model pads, with the color that is zero to SAM.
    """

    def __init__(self, size: int, min_scale: float, max_scale: float) -> None:
        super().__init__()
        self.scale = T.ResizeScale(min_scale, max_scale, target_height=size, target_width=size)
        self.crop = T.FixedSizeCrop(crop_size=(size, size), pad=False)

    def get_transform(self, image: NDArray[np.uint8]) -> Transform:
        resize = self.scale.get_transform(image)
        # The crop looks at nothing but the size of the image that it is to be of.
        resized = np.broadcast_to(image[:1, :1], (resize.new_h, resize.new_w, *image.shape[2:]))
        (crop,) = self.crop.get_transform(resized).transforms
        return ResizedCrop(resize, crop)


def _large_scale_jitter(image_size: int, min_scale: float, max_scale: float) -> list[T.Augmentation]:
    return [LargeScaleJitter(image_size, min_scale, max_scale), T.RandomFlip()]


def _flip(image_size: int, min_scale: float, max_scale: float) -> list[T.Augmentation]:
    """A fixed size and a flip: features of the frozen encoders can be cached."""
    return [ResizeLongestSide(image_size), T.RandomFlip()]


def _resize(image_size: int, min_scale: float, max_scale: float) -> list[T.Augmentation]:
    return [ResizeLongestSide(image_size)]


AUGMENTATIONS: dict[str, Callable[[int, float, float], list[T.Augmentation]]] = {
    "lsj": _large_scale_jitter,
    "flip": _flip,
    "resize": _resize,
}


def build_augmentations(
    *,
    image_size: int,
    is_train: bool,
    mode: str = "lsj",
    min_scale: float = 0.1,
    max_scale: float = 2.0,
    shortest_edge: tuple[int, int] | None = None,
) -> list[T.Augmentation]:
    """The augmentations of a training mode, or those of test time.

    Args:
        image_size: crop side of "lsj"; length of the longer side elsewhere, in pixels.
        is_train: False gives the test-time resize (`build_resize`) whatever the `mode`, which is still checked, so that
            one config section serves both.
        mode: one of `AUGMENTATIONS`: "lsj" (large-scale jitter, fixed-size crop, flip), "flip" (longer side
            to `image_size`, flip) or "resize" (longer side to `image_size`, nothing random).
        min_scale, max_scale: range of "lsj".
        shortest_edge: of the test-time resize, see `build_resize`.

    Raises:
        ValueError: unknown mode, image_size < 1, or not 0 < min_scale ≤ max_scale.
    """
    if mode not in AUGMENTATIONS:
        hint = did_you_mean(mode, AUGMENTATIONS)
        raise ValueError(f"unknown augmentation mode {mode!r}; the modes are {list(AUGMENTATIONS)}.{hint}")
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel, but got {image_size}.")
    if not 0 < min_scale <= max_scale:
        raise ValueError(f"scales must be 0 < min_scale <= max_scale, but got {min_scale} and {max_scale}.")
    if not is_train:
        return [build_resize(image_size, shortest_edge)]
    return AUGMENTATIONS[mode](image_size, min_scale, max_scale)


def whole_image(transform: Transform) -> bool | None:
    """Whether the result shows the whole image, resized at most once, plain or mirrored.

    Such a result is known by its size and its side, so features of it can be kept. Crops of everything and pads of
    nothing count as nothing.

    Returns:
        False: plain. True: mirrored. None: something else.
    """
    if isinstance(transform, TransformList):
        if sum(isinstance(step, T.ResizeTransform) and not _is_identity(step) for step in transform.transforms) > 1:
            return None
        flips = [whole_image(step) for step in transform.transforms]
        return None if None in flips else sum(map(bool, flips)) % 2 == 1
    if isinstance(transform, HFlipTransform):
        return True
    if isinstance(transform, NoOpTransform | T.ResizeTransform) or _is_identity(transform):
        return False
    return None


def _is_identity(transform: Transform) -> bool:
    if isinstance(transform, T.ResizeTransform):
        return (transform.h, transform.w) == (transform.new_h, transform.new_w)
    if isinstance(transform, CropTransform):
        # The original size is optional in a crop, and without it nothing can be said.
        if transform.orig_h is None or transform.orig_w is None:
            return False
        whole = transform.h >= transform.orig_h and transform.w >= transform.orig_w
        return whole and transform.x0 == 0 and transform.y0 == 0
    if isinstance(transform, PadTransform):
        return transform.x0 == transform.y0 == transform.x1 == transform.y1 == 0
    return False
