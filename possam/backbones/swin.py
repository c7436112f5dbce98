"""Swin transformers of timm as trained backbones (METHOD.md 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import timm
from timm.models.swin_transformer import SwinTransformer, WindowAttention, checkpoint_filter_fn
from torch import Tensor, nn

from possam.backbones.base import STRIDES, TrainedBackbone, register_backbone

__all__ = ["SwinBackbone"]


class SwinBackbone(TrainedBackbone):
    """timm's Swin transformer without its classifier, and a LayerNorm of its own for each stage's output.

    Windows keep their size, and every second block shifts them, whatever the image's size, as in Mask2Former.
    """

    def __init__(self, *, body: SwinTransformer, lr_factor: float = 0.1) -> None:
        """
        Args:
            body: a Swin transformer of timm for images of any size (`strict_img_size=False`); its last norm and its
                head are removed.
        """
        super().__init__(lr_factor=lr_factor)
        body.norm = body.head = nn.Identity()  # type: ignore[assignment]
        self.body = body
        widths = [int(stage["num_chs"]) for stage in body.feature_info]
        self.out_channels = dict(zip(STRIDES, widths, strict=True))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.out_channels.values())
        for module in body.modules():
            if isinstance(module, WindowAttention):
                # see possam.engine.optimizer
                module.embedding_parameters = ("relative_position_bias_table",)  # type: ignore[assignment]

    def stages(self, images: Tensor) -> list[Tensor]:
        x = self.body.patch_embed(images)
        maps = []
        for stage, norm in zip(self.body.layers, self.norms, strict=True):
            x = stage(x)
            maps.append(norm(x).permute(0, 3, 1, 2))
        return maps

    def load_pretrained(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take over timm's own state dict, or that of Swin's authors; its last norm and its head are left out."""
        own, kept = self.body.state_dict(), dict(state)
        tables = {key: value for key, value in state.items() if key.endswith("relative_position_bias_table")}
        # timm would resize the table of another window without a word.
        if all(key in own and own[key].shape == value.shape for key, value in tables.items()):
            kept = checkpoint_filter_fn(kept, self.body)
        kept = {key: value for key, value in kept.items() if not key.startswith(("norm.", "head."))}
        self._load(self.body, kept, source)


def _swin(name: str, *, lr_factor: float, drop_path_rate: float, **options: Any) -> SwinBackbone:
    body = timm.create_model(
        name,
        num_classes=0,
        drop_path_rate=drop_path_rate,
        strict_img_size=False,
        always_partition=True,
        **options,
    )
    assert isinstance(body, SwinTransformer)
    return SwinBackbone(body=body, lr_factor=lr_factor)


register_backbone("swin_small", partial(_swin, "swin_small_patch4_window7_224"))
register_backbone("swin_large", partial(_swin, "swin_large_patch4_window12_384"))
