"""The contract of trained backbones, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from possam.encoders import FeatureMaps
from possam.encoders.base import SHIPPED, shipped_file
from possam.encoders.state_dicts import differences, not_finite, read_state_dict
from possam.encoders.weight_files import WEIGHTS, known_file
from possam.utils.messages import did_you_mean

__all__ = ["STRIDES", "TrainedBackbone", "backbone_names", "build_backbone", "check_backbone", "register_backbone"]

STRIDES = (4, 8, 16, 32)
_SHIPPED_FILES = {"mini_r": Path(__file__).parent / "weights" / "mini_r.safetensors"}
"""Weights that come with the package: the miniature world's backbone (tools/pretrain_mini_backbone.py)."""
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, RGB on 0..255


class TrainedBackbone(nn.Module, ABC):
    """Base of image backbones that are trained with the model, and saved with it.

    Attributes:
        out_channels: channels by stride, {4: C_4, 8: C_8, 16: C_16, 32: C_32}.
        lr_factor: factor of the learning rate of its parameters (METHOD.md 2.1; possam/engine/optimizer.py).
        pixel_mean, pixel_std: 1×3×1×1 float32, ImageNet's, RGB on the 0..255 scale.
    """

    out_channels: dict[int, int]
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, *, lr_factor: float = 0.1) -> None:
        super().__init__()
        self.lr_factor = lr_factor
        self.register_buffer("pixel_mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> FeatureMaps:
        """Encode images.

        Args:
            images: B×3×H×W float, RGB in [0, 255], H and W multiples of 32.

        Returns:
            The maps of `out_channels`, B×C_s×H/s×W/s each.

        Raises:
            ValueError: images of another shape.
        """
        if images.dim() != 4 or images.shape[1] != 3 or images.shape[2] % STRIDES[-1] or images.shape[3] % STRIDES[-1]:
            raise ValueError(
                f"images must be B×3×H×W with H and W multiples of {STRIDES[-1]}, but got shape {tuple(images.shape)}"
            )
        return dict(zip(STRIDES, self.stages((images - self.pixel_mean) / self.pixel_std), strict=True))

    @abstractmethod
    def stages(self, images: Tensor) -> list[Tensor]:
        """Maps of the four stages, finest first, of normalized images."""

    @abstractmethod
    def load_pretrained(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take over the parameters of a classifier's state dict. Raises ValueError for another architecture's."""

    def _load(self, body: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
        """Load a state dict that must fit `body` exactly."""
        expected = body.state_dict()
        if wrong := differences(expected, state):
            raise ValueError(f"{source} does not fit {type(self).__name__}: {wrong}. Give the backbone's own weights.")
        if wrong := not_finite(state):
            raise ValueError(f"{source} holds values that are NaN or infinite: {wrong}; get the file again.")
        body.load_state_dict(state)


BackboneBuilder = Callable[..., TrainedBackbone]

_BACKBONES: dict[str, BackboneBuilder] = {}


def register_backbone(name: str, builder: BackboneBuilder) -> None:
    """Register what builds a backbone: (lr_factor, drop_path_rate) → a backbone with random parameters."""
    assert name not in _BACKBONES, f"two backbones called {name}"
    _BACKBONES[name] = builder


def backbone_names() -> list[str]:
    """Names that `build_backbone` takes."""
    return list(_builders())


def _builders() -> dict[str, BackboneBuilder]:
    # They register themselves, and importing torchvision and timm takes seconds.
    from possam.backbones import resnet as _resnet  # noqa: F401
    from possam.backbones import swin as _swin  # noqa: F401

    return _BACKBONES


def build_backbone(
    *, name: str, weights: str | Path = "", lr_factor: float = 0.1, drop_path_rate: float = 0.0
) -> TrainedBackbone:
    """Build a backbone by name.

    Args:
        name: one of `backbone_names`.
        weights: file of the classifier's state dict, as torchvision (ResNets) or timm (Swin) publishes it; "" for
            random parameters, "shipped" for those that come with the package (`mini_r` only). `possam weights` lists
            the official ones.
        lr_factor: factor of the learning rate.
        drop_path_rate: of stochastic depth, at the last block; Swin alone has it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown name, or a file that cannot be read or is of another architecture.
    """
    builders = _builders()
    if name not in builders:
        raise ValueError(
            f"no backbone is called {name!r}; valid names: {', '.join(builders)}.{did_you_mean(name, builders)}"
        )
    if weights == SHIPPED:
        weights = shipped_file(_SHIPPED_FILES, name, key="weights")
    state = read_state_dict(Path(weights), kind=name) if weights else None
    backbone = builders[name](lr_factor=lr_factor, drop_path_rate=drop_path_rate)
    if state is not None and not backbone.pixel_mean.is_meta:
        backbone.load_pretrained(state, str(weights))
    return backbone


def check_backbone(*, key: str, name: str, weights: str) -> None:
    """Check that weights are empty, "shipped", an existing file or called as official ones, without reading them.

    Args:
        key: configuration key of the backbone, such as "MODEL.BACKBONE", for the message.

    Raises:
        ValueError: they are neither.
    """
    if weights == SHIPPED:
        shipped_file(_SHIPPED_FILES, name, key=f"{key}.WEIGHTS")
        return
    official = known_file(weights) if weights else None
    if official is not None and official.model != name:
        raise ValueError(f"{key}.WEIGHTS {weights!r} are those of {official.model}, not of {key}.NAME {name!r}.")
    if weights and official is None and not Path(weights).is_file():
        names = [file.filename for file in WEIGHTS.values() if file.model == name]
        names += [SHIPPED] if name in _SHIPPED_FILES else []
        raise ValueError(
            f"{key}.WEIGHTS {weights!r} is neither a file nor called as weights of {key}.NAME {name!r} "
            f"({', '.join(names) or 'none'}); leave it empty for random weights."
        )
