"""The contract of all frozen image encoders, and how they run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self  # of `typing` from Python 3.11 on

__all__ = [
    "DRAWINGS_ONLY",
    "SHIPPED",
    "FeatureMaps",
    "FrozenEncoder",
    "frozen",
    "no_autocast",
    "shipped_file",
    "working_dtype",
]

SHIPPED = "shipped"
"""Weights that come with the package, in place of a file's path."""


def shipped_file(files: Mapping[str, Path], name: str, *, key: str, instead: str = "") -> Path:
    """The file of the part `name` that comes with the package.

    Args:
        files: those that there are, by part.
        key: argument or configuration key that is "shipped", for the message.
        instead: how else to get weights, for the message.

    Raises:
        ValueError: there is none for this part.
    """
    if name not in files:
        raise ValueError(
            f"{key} is {SHIPPED!r}, but the package has no weights of {name!r}, only of {', '.join(files)}; give the "
            f"path of a file{instead}."
        )
    return files[name]


DRAWINGS_ONLY = (
    "The miniature model reads drawings of its own world alone, of 128×128 pixels: what it finds in a photo means "
    "nothing, whatever the words."
)

FeatureMaps = dict[int, Tensor]
"""Feature maps of a batch by stride in pixels of the image: {s: B×C_s×H/s×W/s}, finest first."""


class FrozenEncoder(nn.Module):
    """Base of image encoders that are never trained.

    An instance has no gradients and is always in eval mode. The optimizer, checkpoints and saved models leave it out
    because of its type, whatever it is called in a model; they record `describe()` instead.

    Attributes:
        name: what the encoder is built by.
        out_channels: channels by stride, {s: C_s}, finest first.
        final_stride: stride of the last map, the key of the encoder's final features.
        pixel_mean, pixel_std: 1×3×1×1 float32, RGB on the 0..255 scale.
        limits: a sentence on the images that it cannot read; "" where it reads any.
    """

    limits: str = ""
    name: str
    out_channels: dict[int, int]
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, *, name: str, pixel_mean: Tensor, pixel_std: Tensor) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("pixel_mean", pixel_mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", pixel_std.view(1, 3, 1, 1), persistent=False)

    @property
    def final_stride(self) -> int:
        return list(self.out_channels)[-1]

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that decides the features; computed on first use."""
        raise NotImplementedError

    def forward(self, images: Tensor, *, strides: Sequence[int] | None = None) -> FeatureMaps:
        """Encode images.

        Args:
            images: B×3×H×W float, RGB in [0, 255].
            strides: the maps wanted, keys of `out_channels`; by default all.

        Returns:
            The maps, without gradients.

        Raises:
            ValueError: images of another shape, or a stride that the encoder does not have.
        """
        raise NotImplementedError

    def final(self, images: Tensor) -> Tensor:
        """The last map alone: B×3×H×W images, as in `forward` → B×C_s×H/s×W/s, s the `final_stride`."""
        return self(images, strides=(self.final_stride,))[self.final_stride]

    def check_input(self, images: Tensor, strides: Sequence[int] | None) -> tuple[int, ...]:
        """Return the strides wanted, after checking the arguments of `forward`."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be B×3×H×W (RGB, 0..255), but got shape {tuple(images.shape)}")
        wanted = tuple(self.out_channels) if strides is None else tuple(strides)
        if not wanted or not set(wanted) <= set(self.out_channels):
            raise ValueError(f"{self.name or type(self).__name__} has maps of strides {list(self.out_channels)}, "
                             f"but got strides={list(wanted)}")
        return wanted

    @classmethod
    def names(cls) -> list[str]:
        """Return what `name` an encoder of this type can be built by."""
        raise NotImplementedError

    @classmethod
    def check_weights(cls, *, key: str, name: str, weights: str) -> None:
        """Check, without reading them, that weights are a file or called as official ones of the encoder `name`.

        Args:
            key: configuration key of the encoder, such as "MODEL.CLIP", for the message.

        Raises:
            ValueError: they are neither.
        """
        raise NotImplementedError

    @classmethod
    def finds_weights(cls, weights: str) -> bool:
        """Return whether weights can be loaded here: none, shipped ones or a file."""
        return weights in ("", SHIPPED) or Path(weights).is_file()

    def describe(self) -> dict[str, Any]:
        """Return what identifies the encoder in a checkpoint, as plain data: at least "name" and "fingerprint"."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    def freeze(self) -> None:
        """Switch off the gradients of all parameters and training mode; subclasses call it once they are built."""
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever `mode` is, so that dropout and batch norm never change features."""
        return super().train(False)


def frozen(forward: Callable[..., FeatureMaps]) -> Callable[..., FeatureMaps]:
    """Decorator: run in inference mode, and return ordinary tensors, which a training step may save for its backward.

    A program that is being traced has no inference mode; there it is `no_grad`.
    """

    @functools.wraps(forward)
    def run(self: FrozenEncoder, images: Tensor, *, strides: Sequence[int] | None = None) -> FeatureMaps:
        if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
            with torch.no_grad():
                return forward(self, images, strides=strides)
        with torch.inference_mode():
            maps = forward(self, images, strides=strides)
        return {stride: features.clone(memory_format=torch.contiguous_format) for stride, features in maps.items()}

    return run


def working_dtype(weight: Tensor) -> torch.dtype:
    """Type of matrix products over `weight`: autocast's where it is on, else the weight's own."""
    kind = weight.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return weight.dtype


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    # The meta device, on which configurations are checked, knows no autocast and refuses to have it switched off.
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
