"""What a frozen image tower must answer, and the registry that finds the answer from the tower's type.

Shapes: B images, H×W the tower's input, s its stride, H_c×W_c = H/s×W/s cells, D_v width of the dense features,
D width of CLIP's joint space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection

from torch import Tensor, nn


class DenseTower(ABC):
    """Dense features and their projection, read out of an `open_clip` image tower.

    An adapter owns no weights: it holds the tower and calls the tower's own modules, so moving or copying
    the CLIP model moves or copies what it reads.
    """

    stride: int
    feature_dim: int
    has_attention_pool: bool = False
    pool_position: bool = True
    """Whether `project` adds the mean position of an attention pool's tokens; towers without such a pool have none."""

    @property
    def level_channels(self) -> dict[int, int]:
        """Channels of the maps that `levels` gives, by stride in pixels of the tower's input, finest first."""
        return {self.stride: self.feature_dim}

    def levels(self, images: Tensor, strides: Collection[int]) -> dict[int, Tensor]:
        """Maps of these strides, some of `level_channels`, for images as `dense` takes them; the last is `dense`."""
        return {self.stride: self.dense(images)}

    @abstractmethod
    def dense(self, images: Tensor) -> Tensor:
        """B×3×H×W normalized RGB, H and W multiples of `stride` → B×D_v×H/stride×W/stride, before the last pooling."""

    @abstractmethod
    def project(self, pooled: Tensor) -> Tensor:
        """N×D_v features averaged over cells → N×D in CLIP's joint space, not normalized."""

    def attend(self, features: Tensor, inside: Tensor) -> Tensor:
        """B×D_v×h×w dense features and B×Q×h×w bool masks → B×Q×D by the tower's attention pool over each mask's cells
        (over all cells for a mask without one), not normalized. Raises ValueError for a tower without such a pool."""
        raise ValueError(f"{type(self).__name__} has no attention pool; pool masks by their mean.")

    @property
    def pool_side(self) -> int:
        """Side in cells of the square map that `pool` takes. Raises ValueError for a tower without such a pool."""
        raise ValueError(f"{type(self).__name__} has no attention pool; pool masks by their mean.")

    def pool(self, features: Tensor) -> Tensor:
        """N×D_v×side×side dense features → N×D by the whole attention pool, mean token and positions included, not
        normalized. Raises ValueError for a tower without such a pool."""
        raise ValueError(f"{type(self).__name__} has no attention pool; pool masks by their mean.")


TowerBuilder = Callable[[nn.Module], DenseTower]

_TOWERS: dict[type[nn.Module], tuple[str, TowerBuilder]] = {}


def register_tower(core_type: type[nn.Module], name: str) -> Callable[[TowerBuilder], TowerBuilder]:
    """Class decorator: the adapter for towers whose core is an instance of `core_type`, and its name in messages.

    The core of open_clip's `TimmModel` is the timm model inside; any other tower is its own core.
    """

    def register(builder: TowerBuilder) -> TowerBuilder:
        assert core_type not in _TOWERS, f"two adapters for {core_type.__name__}"
        _TOWERS[core_type] = (name, builder)
        return builder

    return register


def supported_towers() -> str:
    """Names of the towers that have an adapter."""
    return ", ".join(name for name, _ in _adapters().values())


def _adapters() -> dict[type[nn.Module], tuple[str, TowerBuilder]]:
    # They register themselves, and importing open_clip takes seconds.
    from possam.encoders.clip import convnext as _convnext  # noqa: F401
    from possam.encoders.clip import resnet as _resnet  # noqa: F401
    from possam.encoders.clip import timm_vit as _timm_vit  # noqa: F401
    from possam.encoders.clip import vit as _vit  # noqa: F401

    return _TOWERS


def build_tower(visual: nn.Module) -> DenseTower:
    """The adapter of an image tower, decided by the tower's type, never by a model's name (METHOD.md 1.5).

    Raises:
        ValueError: no adapter for this type, or a variant of the type whose pooling has no dense counterpart.
    """
    from open_clip.timm_model import TimmModel

    core = visual.trunk if isinstance(visual, TimmModel) else visual
    for core_type, (_, builder) in _adapters().items():
        if isinstance(core, core_type):
            return builder(visual)
    raise ValueError(
        f"no dense features for an image tower of type {type(core).__name__}; supported: {supported_towers()}"
    )
