"""Policies that look at an input and decide on a transform."""

from typing import TYPE_CHECKING, Any

import numpy as np
from fvcore.transforms.transform import Transform, TransformList

__all__ = ["AugInput", "Augmentation", "AugmentationList"]


class Augmentation:
    """A policy, often random: `get_transform` decides on a `Transform`, calling the object also applies it.

    The transform is deterministic, so that it can be applied again to other data of the same image.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # what _init has stored

    def _init(self, params: dict[str, Any] | None = None) -> None:
        """Store constructor arguments, given as ``locals()``, as attributes."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def get_transform(self, image: np.ndarray) -> Transform:
        """Decide what to do to this image (H×W or H×W×C, uint8 0..255 or float)."""
        raise NotImplementedError

    def __call__(self, aug_input: Any) -> Transform:
        """Decide, change ``aug_input`` in place by its ``transform`` method, and return the transform."""
        chosen = self.get_transform(aug_input.image)
        assert isinstance(chosen, Transform), f"{type(self)}.get_transform returned {type(chosen)}, not a Transform"
        aug_input.transform(chosen)
        return chosen

    def _rand_range(self) -> float:
        """Uniform in [0, 1)."""
        return np.random.uniform(0, 1.0)


class AugmentationList(Augmentation):
    """Policies one after the other, each seeing what the one before left.

    It has no `get_transform` of its own, since later policies need transformed inputs.
    """

    def __init__(self, augs: list[Augmentation | Transform]):
        self.augs = augs

    def __call__(self, aug_input: Any) -> TransformList:
        return TransformList([_apply(aug, aug_input) for aug in self.augs])


def _apply(aug: Augmentation | Transform, aug_input: Any) -> Transform:
    if isinstance(aug, Augmentation):
        return aug(aug_input)
    aug_input.transform(aug)
    return aug


class AugInput:
    """An image that policies look at and transform in place."""

    def __init__(self, image: np.ndarray):
        """``image`` is H×W or H×W×C, uint8 0..255 or float."""
        assert isinstance(image, np.ndarray), f"augmentations take NumPy images, but {type(image)} came"
        assert image.ndim in (2, 3), f"an image is H×W or H×W×C, but the shape is {image.shape}"
        whole = np.issubdtype(image.dtype, np.integer) and image.dtype != np.uint8
        assert not whole, f"an image is uint8 or float, but {image.dtype} came"
        self.image = image

    def transform(self, tfm: Transform) -> None:
        """Apply ``tfm`` to the image."""
        self.image = tfm.apply_image(self.image)
