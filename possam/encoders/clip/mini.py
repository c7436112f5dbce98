"""The miniature CLIPs: `open_clip` models small enough to ship, for the miniature world.

Their weights come from `tools/pretrain_mini_clip.py`, which trains them on everything that world can draw.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from possam.utils.messages import few

logger = logging.getLogger(__name__)

PIXEL_MEAN = (0.5, 0.5, 0.5)
PIXEL_STD = (0.25, 0.25, 0.25)
CONTEXT_LENGTH = 24
STRIDE = 16  # pixels of the tower's input per cell: 8 of a scene's
WORDS_FILE = Path(__file__).parent / "mini_words.json"
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


@cache
def _words() -> tuple[str, ...]:
    return tuple(json.loads(WORDS_FILE.read_text()))


def split_words(text: str) -> list[str]:
    """Lower-case words; punctuation separates them and is dropped."""
    return re.findall(r"[a-z0-9']+", text.lower())


class WordTokenizer:
    """Words to ids: 0 padding, 1 start, 2 unknown, then the words of the miniature world, and last the end mark.

    The end mark has the highest id of all, because open_clip reads a text's embedding at its largest id.
    """

    PADDING, START, UNKNOWN = 0, 1, 2

    def __init__(self) -> None:
        self._ids = {word: index for index, word in enumerate(_words(), start=3)}
        self.end = 3 + len(self._ids)
        self.vocab_size = self.end + 1
        self._reported: set[str] = set()

    def __call__(self, texts: str | list[str], context_length: int = CONTEXT_LENGTH) -> Tensor:
        """N texts → N×context_length int64 ids, padded on the right; a longer text is cut and keeps its end mark.

        A word outside the miniature world becomes the unknown id, with a warning where it is new.
        """
        texts = [texts] if isinstance(texts, str) else texts
        self._report(set(self.unknown_words(texts)) - self._reported)
        rows = torch.full((len(texts), context_length), self.PADDING)
        for row, text in zip(rows, texts, strict=True):
            words = [self._ids.get(word, self.UNKNOWN) for word in split_words(text)]
            ids = [self.START, *words][: context_length - 1] + [self.end]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def unknown_words(self, texts: Iterable[str]) -> list[str]:
        """Words of texts that become the unknown id, each once, in their order."""
        words = dict.fromkeys(word for text in texts for word in split_words(text))
        return [word for word in words if word not in self._ids]

    def _report(self, unknown: set[str]) -> None:
        self._reported |= unknown
        if unknown:
            which = f"word {min(unknown)!r}" if len(unknown) == 1 else f"words {few(sorted(unknown))}"
            logger.warning("the miniature CLIP does not know the %s; it reads what it does not know as unknown", which)
