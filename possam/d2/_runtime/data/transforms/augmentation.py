"""Policies that look at an input and decide on a transform."""

import inspect
import pprint
from typing import TYPE_CHECKING, Any

import numpy as np
from fvcore.transforms.transform import Transform, TransformList

__all__ = [
    "AugInput", "Augmentation", "AugmentationList", "StandardAugInput", "TransformGen", "apply_augmentations",
    "apply_transform_gens",
]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Augmentation:
    """A policy, often random: `get_transform` decides on a `Transform`, calling the object also applies it.

    Subclasses name in the signature of `get_transform` what they must see: attributes of the input such as
    ``image`` (H×W or H×W×C, uint8 0..255 or float), ``boxes`` (N×4 float32, absolute x0, y0, x1, y1) and ``sem_seg``
    (H×W uint8 labels). The transform it returns is deterministic, so that it can be applied again to other data of
    the same image.
    """

    # Attributes of the input that get_transform takes; None: read them off its signature.
    input_args: tuple[str, ...] | None = None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # what _init has stored

    def _init(self, params: dict[str, Any] | None = None) -> None:
        """Store constructor arguments, given as ``locals()``, as attributes."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def get_transform(self, *args: Any) -> Transform:
        """Decide what to do to this input."""
        raise NotImplementedError

    def _wanted(self) -> tuple[str, ...]:
        parameters = inspect.signature(self.get_transform).parameters
        if len(parameters) == 1:
            return ("image",)  # whatever a policy of one argument calls it
        if any(parameter.kind in _VARIADIC for parameter in parameters.values()):
            raise TypeError(f"{type(self)}.get_transform takes *args or **kwargs: override __call__ or list input_args")
        return tuple(parameters)

    def __call__(self, aug_input: Any) -> Transform:
        """Decide, change ``aug_input`` in place by its ``transform`` method, and return the transform."""
        if self.input_args is None:
            self.input_args = self._wanted()
        missing = [name for name in self.input_args if not hasattr(aug_input, name)]
        if missing:
            raise AttributeError(f"{type(self)} needs the inputs {missing}, which {type(aug_input)} does not have")
        chosen = self.get_transform(*(getattr(aug_input, name) for name in self.input_args))
        assert isinstance(chosen, Transform), f"{type(self)}.get_transform returned {type(chosen)}, not a Transform"
        aug_input.transform(chosen)
        return chosen

    def _rand_range(self, low: float = 1.0, high: float | None = None, size: Any = None) -> Any:
        """Uniform in [low, high), or in [0, low) without ``high``."""
        low, high = (0, low) if high is None else (low, high)
        return np.random.uniform(low, high, [] if size is None else size)

    def __repr__(self) -> str:
        """The constructor call with the arguments that are not the defaults."""
        shown = []
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name == "self":
                continue
            if parameter.kind in _VARIADIC or not hasattr(self, name):
                return object.__repr__(self)
            value = getattr(self, name)
            if value is not parameter.default:
                text = pprint.pformat(value)
                shown.append(f"{name}={'...' if chr(10) in text else text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    __str__ = __repr__


class _Fixed(Augmentation):
    """The policy that always decides on the same transform."""

    def __init__(self, tfm: Transform):
        self.tfm = tfm

    def get_transform(self, *args: Any) -> Transform:
        return self.tfm

    def __call__(self, aug_input: Any) -> Transform:
        aug_input.transform(self.tfm)
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)

    __str__ = __repr__


def _transform_to_aug(tfm_or_aug: Transform | Augmentation) -> Augmentation:
    if isinstance(tfm_or_aug, Augmentation):
        return tfm_or_aug
    assert isinstance(tfm_or_aug, Transform), tfm_or_aug
    return _Fixed(tfm_or_aug)


class AugmentationList(Augmentation):
    """Policies one after the other, each seeing what the one before left.

    It has no `get_transform` of its own, since later policies need transformed inputs.
    """

    def __init__(self, augs: list[Augmentation | Transform]):
        super().__init__()
        self.augs = [_transform_to_aug(aug) for aug in augs]

    def __call__(self, aug_input: Any) -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(str, self.augs))}]"

    __str__ = __repr__


class AugInput:
    """An image, with boxes and a segmentation if there are any, that policies look at and transform in place."""

    def __init__(self, image: np.ndarray, *, boxes: np.ndarray | None = None, sem_seg: np.ndarray | None = None):
        """
        Args:
            image: H×W or H×W×C, uint8 0..255 or float.
            boxes: N×4 float32, absolute x0, y0, x1, y1.
            sem_seg: H×W uint8 labels.
        """
        assert isinstance(image, np.ndarray), f"augmentations take NumPy images, but {type(image)} came"
        assert image.ndim in (2, 3), f"an image is H×W or H×W×C, but the shape is {image.shape}"
        whole = np.issubdtype(image.dtype, np.integer) and image.dtype != np.uint8
        assert not whole, f"an image is uint8 or float, but {image.dtype} came"
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, tfm: Transform) -> None:
        """Apply ``tfm`` to everything held here."""
        self.image = tfm.apply_image(self.image)
        self.boxes = None if self.boxes is None else tfm.apply_box(self.boxes)
        self.sem_seg = None if self.sem_seg is None else tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(self, augmentations: list[Augmentation | Transform]) -> TransformList:
        """Run `AugmentationList` on this input."""
        return AugmentationList(augmentations)(self)


def apply_augmentations(augmentations: list[Transform | Augmentation], inputs: Any) -> tuple[Any, TransformList]:
    """Run policies on an `AugInput`, or on a bare image; returns the input (or image) and the transforms."""
    bare = isinstance(inputs, np.ndarray)
    holder = AugInput(inputs) if bare else inputs
    transforms = holder.apply_augmentations(augmentations)
    return (holder.image if bare else holder), transforms


# Older names.
TransformGen = Augmentation
StandardAugInput = AugInput
apply_transform_gens = apply_augmentations
