"""Deterministic transforms beyond fvcore's.

H×W×C images (or H×W), uint8 0..255 or float; coordinates are N×2 arrays (x, y), in pixels.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import Transform
from PIL import Image

__all__ = ["ResizeTransform"]

_TORCH_MODES = {
    Image.Resampling.NEAREST: "nearest", Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic",
}


def _through_pil(image: np.ndarray, operation: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Run a PIL operation on a uint8 array; PIL knows no H×W×1."""
    single = image.ndim == 3 and image.shape[2] == 1
    result = np.array(operation(Image.fromarray(image[:, :, 0] if single else image)))
    return result[:, :, None] if single else result


class ResizeTransform(Transform):
    """Resize from h×w to new_h×new_w: uint8 by PIL (antialiased), other dtypes by PyTorch."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # what _set_attributes has stored

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
