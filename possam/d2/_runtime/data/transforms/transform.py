"""Deterministic transforms beyond fvcore's.

H×W×C images (or H×W), uint8 0..255 or float; coordinates are N×2 arrays (x, y), in pixels.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import CropTransform, NoOpTransform, Transform, TransformList
from PIL import Image

__all__ = ["ColorTransform", "ExtentTransform", "PILColorTransform", "ResizeTransform", "RotationTransform"]

_TORCH_MODES = {
    Image.Resampling.NEAREST: "nearest",
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
}


def _through_pil(image: np.ndarray, operation: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Run a PIL operation on a uint8 array; PIL knows no H×W×1."""
    single = image.ndim == 3 and image.shape[2] == 1
    result = np.array(operation(Image.fromarray(image[:, :, 0] if single else image)))
    return result[:, :, None] if single else result


class ExtentTransform(Transform):
    """Cut a rectangle, which may reach beyond the image, and scale it to a size."""

    src_rect: Any
    output_size: Any
    interp: int
    fill: Any

    def __init__(self, src_rect: Any, output_size: Any, interp: int = Image.Resampling.BILINEAR, fill: Any = 0):
        """
        Args:
            src_rect: x0, y0, x1, y1 in the source.
            output_size: height and width of the result.
            interp: a PIL filter.
            fill: colour of what lies outside the image.
        """
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        height, width = self.output_size
        # 0 is PIL's NEAREST, so it must not be mistaken for "not given".
        resample = self.interp if interp is None else interp
        return _through_pil(
            img,
            lambda image: image.transform(
                size=(width, height),
                method=Image.Transform.EXTENT,
                data=self.src_rect,
                resample=resample,
                fill=self.fill,
            ),
        )

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = self.src_rect
        height, width = self.output_size
        scale = np.array([width / (x1 - x0), height / (y1 - y0)])
        return ((np.asarray(coords, dtype=np.float64) - (x0, y0)) * scale).astype(np.float32)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST)


class ResizeTransform(Transform):
    """Resize from h×w to new_h×new_w: uint8 by PIL (antialiased), other dtypes by PyTorch."""

    h: int
    w: int
    new_h: int
    new_w: int
    interp: int

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None):
        super().__init__()
        if interp is None:
            interp = Image.Resampling.BILINEAR
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        assert img.shape[:2] == (self.h, self.w), f"expected an image of {self.h}×{self.w}, got {img.shape}"
        assert img.ndim <= 4, img.shape
        method = self.interp if interp is None else interp
        if img.dtype == np.uint8:
            return _through_pil(img, lambda image: image.resize((self.new_w, self.new_h), method))
        mode = _TORCH_MODES[Image.Resampling(method)]
        tensor = torch.from_numpy(np.ascontiguousarray(img))
        flat = tensor.reshape(self.h, self.w, -1).permute(2, 0, 1)[None]
        options = {} if mode == "nearest" else {"align_corners": False}
        resized = F.interpolate(flat, (self.new_h, self.new_w), mode=mode, **options)
        return resized[0].permute(1, 2, 0).reshape(self.new_h, self.new_w, *img.shape[2:]).numpy()

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        # In place: integer coordinates stay integers, as in Detectron2.
        coords[:, 0] = coords[:, 0] * (self.new_w / self.w)
        coords[:, 1] = coords[:, 1] * (self.new_h / self.h)
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST)

    def inverse(self) -> "ResizeTransform":
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class RotationTransform(Transform):
    """Rotate counter-clockwise by degrees."""

    h: int
    w: int
    angle: float
    expand: bool
    center: Any
    interp: int
    image_center: np.ndarray
    bound_w: int
    bound_h: int

    def __init__(
        self, h: int, w: int, angle: float, expand: bool = True, center: Any = None, interp: int | None = None
    ):
        """
        Args:
            h, w: size of the image.
            angle: degrees.
            expand: enlarge the result so that nothing is lost; then ``center`` has no effect.
            center: (x, y) to rotate around, by default the middle.
            interp: an OpenCV interpolation, by default linear.
        """
        super().__init__()
        image_center = np.array((w / 2, h / 2))
        center = image_center if center is None else center
        interp = cv2.INTER_LINEAR if interp is None else interp
        sine, cosine = abs(np.sin(np.deg2rad(angle))), abs(np.cos(np.deg2rad(angle)))
        bound_w, bound_h = w, h
        if expand:
            bound_w, bound_h = np.rint([w * cosine + h * sine, w * sine + h * cosine]).astype(int)
        self._set_attributes(
            {
                "h": h,
                "w": w,
                "angle": angle,
                "expand": expand,
                "center": center,
                "interp": interp,
                "image_center": image_center,
                "bound_w": bound_w,
                "bound_h": bound_h,
            }
        )
        self.rm_coords = self.create_rotation_matrix()
        # OpenCV counts pixel centres from 0, coordinates count pixel corners: half a pixel between them.
        self.rm_image = self.create_rotation_matrix(offset=-0.5)

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if len(img) == 0 or self.angle % 360 == 0:
            return img
        assert img.shape[:2] == (self.h, self.w), f"expected an image of {self.h}×{self.w}, got {img.shape}"
        flags = self.interp if interp is None else interp
        return cv2.warpAffine(img, self.rm_image, (int(self.bound_w), int(self.bound_h)), flags=flags)

    def apply_coords(self, coords: Any) -> np.ndarray:
        points = np.asarray(coords, dtype=float)
        if len(points) == 0 or self.angle % 360 == 0:
            return points
        return points @ self.rm_coords[:, :2].T + self.rm_coords[:, 2]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=cv2.INTER_NEAREST)

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """The 2×3 matrix for coordinates whose origin is moved by ``offset``."""
        centre = (float(self.center[0] + offset), float(self.center[1] + offset))
        matrix = cv2.getRotationMatrix2D(centre, self.angle, 1)
        if self.expand:
            # The middle of the image has to become the middle of the result.
            middle = matrix[:, :2] @ (self.image_center + offset) + matrix[:, 2]
            matrix[:, 2] = matrix[:, 2] + np.array([self.bound_w, self.bound_h]) / 2 + offset - middle
        return matrix

    def inverse(self) -> TransformList:
        """Rotate back and crop; impossible where the first rotation cut something off."""
        if not self.expand:
            raise NotImplementedError("a rotation with expand=False loses corners, so it has no inverse")
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, True, None, self.interp)
        left, top = (back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2
        return TransformList([back, CropTransform(left, top, self.w, self.h)])


class ColorTransform(Transform):
    """A function of colours alone: array in, array out, geometry untouched."""

    op: Callable[[Any], Any]

    def __init__(self, op: Callable[[Any], Any]):
        if not callable(op):
            raise ValueError(f"op must be a function of an image, but {type(op).__name__} came")
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return NoOpTransform()


class PILColorTransform(ColorTransform):
    """A `ColorTransform` whose function takes and returns PIL images."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.array(self.op(Image.fromarray(img)))
