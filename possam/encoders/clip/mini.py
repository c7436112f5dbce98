"""The miniature CLIPs: `open_clip` models small enough to ship, for the miniature world.

Their weights come from `tools/pretrain_mini_clip.py`, which trains them on everything that world can draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import timm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.convnext import ConvNeXt
from torch import nn

from possam.encoders.clip.word_tokenizer import CONTEXT_LENGTH, WordTokenizer

PIXEL_MEAN = (0.5, 0.5, 0.5)
PIXEL_STD = (0.25, 0.25, 0.25)
STRIDE = 16  # pixels of the tower's input per cell: 8 of a scene's
WEIGHTS = Path(__file__).parent.parent / "weights"

default_cfgs = generate_default_cfgs(
    {name: {"pool_size": (6, 6), "input_size": (3, 96, 96)} for name in ("possam_mini_strong", "possam_mini_weak")}
)


def _convnext(variant: str, pretrained: bool, **kwargs: Any) -> ConvNeXt:
    if pretrained:
        raise ValueError(f"{variant} has no ImageNet weights; build it through FrozenCLIP.build")
    # What lets a net this small learn shapes and patterns of any color in minutes instead of days: an overlapping stem
    # that sees edges, batch norm, 3×3 kernels, no layer scale.
    fixed: dict[str, Any] = {
        "output_stride": STRIDE,
        "stem_type": "overlap_act",
        "kernel_sizes": 3,
        "norm_layer": "batchnorm2d",
        "conv_mlp": True,
        "ls_init_value": None,
    }
    trunk = build_model_with_cfg(ConvNeXt, variant, pretrained, **{**fixed, **kwargs})
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            # timm's constant 0.02 suits widths of a thousand; here it would start the blocks near zero.
            nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5)
    return trunk


@register_model
def possam_mini_strong(pretrained: bool = False, **kwargs: Any) -> ConvNeXt:
    return _convnext("possam_mini_strong", pretrained, depths=(1, 1, 2, 1), dims=(32, 64, 128, 192), **kwargs)


@register_model
def possam_mini_weak(pretrained: bool = False, **kwargs: Any) -> ConvNeXt:
    return _convnext("possam_mini_weak", pretrained, depths=(1, 1, 1, 1), dims=(24, 48, 96, 112), **kwargs)


@dataclass(frozen=True)
class MiniModel:
    trunk: str  # name of the timm model above
    embed_dim: int
    text_width: int
    text_layers: int
    input_scale: float  # pixels of the tower's input per pixel of the image, a side
    weights: Path


MODELS = {
    "mini_strong": MiniModel("possam_mini_strong", 96, 96, 2, 2.0, WEIGHTS / "mini_clip_strong.safetensors"),
    "mini_weak": MiniModel("possam_mini_weak", 96, 64, 2, 2.0, WEIGHTS / "mini_clip_weak.safetensors"),
}


def create_model(name: str) -> open_clip.CLIP:
    """A miniature CLIP with random weights."""
    config = MODELS[name]
    assert timm.is_model(config.trunk)
    vision = {"timm_model_name": config.trunk, "timm_pool": "", "timm_proj": "linear", "image_size": 96}
    text = {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": WordTokenizer().vocab_size,
        "width": config.text_width,
        "heads": config.text_width // 32,
        "layers": config.text_layers,
    }
    return open_clip.CLIP(config.embed_dim, vision, text)
