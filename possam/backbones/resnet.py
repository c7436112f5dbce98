"""ResNets of torchvision as trained backbones (METHOD.md 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d

from possam.backbones.base import STRIDES, TrainedBackbone, register_backbone

__all__ = ["ResNetBackbone"]


class _NarrowBottleneck(Bottleneck):
    """A bottleneck whose output is as wide as its first layer's planes, for the miniature."""

    expansion = 1


class ResNetBackbone(TrainedBackbone):
    """torchvision's ResNet without its classifier: stride in the 3×3 convolution, batch norms frozen.

    Everything but the batch norms' statistics and affine parameters is trained, as in Mask2Former.
    """

    def __init__(self, *, body: ResNet, lr_factor: float = 0.1) -> None:
        """
        Args:
            body: a ResNet of torchvision; its pooling and its last layer are removed.
        """
        super().__init__(lr_factor=lr_factor)
        del body.avgpool, body.fc
        self.body = body
        self.out_channels = dict(zip(STRIDES, (_width(layer) for layer in _layers(body)), strict=True))

    def stages(self, images: Tensor) -> list[Tensor]:
        body = self.body
        x = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        maps = []
        for layer in _layers(body):
            x = layer(x)
            maps.append(x)
        return maps

    def load_pretrained(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take over torchvision's own state dict, whose classifier and counters of batches are left out."""
        kept = {
            key: value
            for key, value in state.items()
            if not key.startswith("fc.") and not key.endswith("num_batches_tracked")
        }
        self._load(self.body, kept, source)


def _layers(body: ResNet) -> tuple[nn.Sequential, ...]:
    return body.layer1, body.layer2, body.layer3, body.layer4


def _width(layer: nn.Sequential) -> int:
    """Output channels of a stage."""
    return [module for module in layer[-1].children() if isinstance(module, nn.Conv2d)][-1].out_channels


def _resnet(layers: list[int], *, lr_factor: float, drop_path_rate: float) -> ResNetBackbone:
    body = ResNet(Bottleneck, layers, norm_layer=FrozenBatchNorm2d)
    return ResNetBackbone(body=body, lr_factor=lr_factor)


def _mini(*, lr_factor: float, drop_path_rate: float) -> ResNetBackbone:
    # Frozen batch norms need pre-trained statistics; group norm depends neither on the batch nor on how it is split.
    norm = partial(nn.GroupNorm, 8)
    body = ResNet(_NarrowBottleneck, [1, 1, 1, 1], width_per_group=32, norm_layer=norm)
    return ResNetBackbone(body=body, lr_factor=lr_factor)


register_backbone("resnet50", partial(_resnet, [3, 4, 6, 3]))
register_backbone("resnet101", partial(_resnet, [3, 4, 23, 3]))
register_backbone("mini_r", _mini)
