"""The frozen image encoder of SAM (METHOD.md 1.1): the parameters of `segment_anything`'s own
`ImageEncoderViT`, at any input size.

Shape legend: B images, H×W padded input, p patch size, C channels after the neck.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from possam.encoders.base import (
    DRAWINGS_ONLY,
    SHIPPED,
    FeatureMaps,
    FrozenEncoder,
    frozen,
    no_autocast,
    shipped_file,
    working_dtype,
)
from possam.encoders.sam_attention import resize_relative_positions, run_block
from possam.encoders.state_dicts import Unfilled, differences, digest_tensors, not_finite, read_state_dict, take_over
from possam.encoders.weight_files import WEIGHTS, known_file
from possam.utils.messages import did_you_mean

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT

_SHIPPED_FILES = {"mini": Path(__file__).parent / "weights" / "mini_sam.safetensors"}
# SAM's preprocessing (segment_anything/build_sam.py): RGB mean and deviation on the 0..255 scale.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
_PREFIX = "image_encoder."
_OTHER_PARTS = ("prompt_encoder.", "mask_decoder.", "pixel_")
# Parts of the keys of checkpoints that are taken for SAM's.
_STRANGERS = {
    "trunk.": "SAM 2",
    "vision_encoder.": "a SAM in the layout of transformers; use Meta's own file",
    "visual.": "a CLIP",
    "backbone.": "a detector or a segmentation model",
    "layers.0.blocks.": "MobileSAM",
}


@dataclass(frozen=True)
class SAMSize:
    """Sizes of an encoder, named as `ImageEncoderViT` names them; `image_size` is the side its positions are
    for."""

    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]
    image_size: int = 1024
    patch_size: int = 16
    window_size: int = 14
    out_chans: int = 256


SIZES: dict[str, SAMSize] = {
    "vit_b": SAMSize(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": SAMSize(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": SAMSize(1280, 32, 16, (7, 15, 23, 31)),
    # For tests of real layouts: random weights, milliseconds on a CPU.
    "vit_tiny": SAMSize(32, 2, 2, (1,), image_size=128, window_size=4, out_chans=16),
    # The miniature world's encoder; its weights come with the package (tools/pretrain_mini_sam.py).
    "mini": SAMSize(96, 4, 4, (1, 3), image_size=128, patch_size=8, window_size=8, out_chans=64),
}


def build_image_encoder(name: str, *, image_size: int | None = None) -> ImageEncoderViT:
    """An `ImageEncoderViT` with `segment_anything`'s initialization, trainable.

    Raises:
        ValueError: an unknown `name`, or an `image_size` that the patch size does not divide.
    """
    if name not in SIZES:
        raise ValueError(f"unknown SAM encoder {name!r}.{did_you_mean(name, SIZES)} Valid names: {', '.join(SIZES)}")
    size = SIZES[name]
    side = size.image_size if image_size is None else image_size
    if side <= 0 or side % size.patch_size:
        raise ValueError(
            f"image_size of {name} must be a positive multiple of its patch size {size.patch_size}, "
            f"got {side}"
        )
    from segment_anything.modeling import ImageEncoderViT  # it imports torchvision, which takes seconds

    return ImageEncoderViT(
        img_size=side,
        patch_size=size.patch_size,
        embed_dim=size.embed_dim,
        depth=size.depth,
        num_heads=size.num_heads,
        mlp_ratio=4,
        out_chans=size.out_chans,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        global_attn_indexes=size.global_attn_indexes,
        window_size=size.window_size,
    )


class FrozenSAM(FrozenEncoder):
    """SAM's image encoder. It has one map, of stride p and C channels.

    Attributes:
        stride: side of a patch p in pixels.
    """

    def __init__(self, *, encoder: ImageEncoderViT, name: str) -> None:
        super().__init__(name=name, pixel_mean=torch.tensor(PIXEL_MEAN), pixel_std=torch.tensor(PIXEL_STD))
        self.encoder = encoder
        self.limits = DRAWINGS_ONLY if name in _SHIPPED_FILES else ""
        self.stride: int = encoder.patch_embed.proj.kernel_size[0]
        self.out_channels = {self.stride: encoder.neck[0].out_channels}
        self.freeze()

    @classmethod
    def build(
        cls, *, name: str, weights: str | Path | None = None, image_size: int | None = None, seed: int = 0
    ) -> FrozenSAM:
        """Builds an encoder and loads its weights.

        Args:
            name: a key of `SIZES`.
            weights: a file — a SAM checkpoint (`sam_vit_b_01ec64.pth`: keys `image_encoder.*`, the rest is
                left out) or the encoder's own state dict, as a torch file or `.safetensors`; `"shipped"` for
                the file that comes with the package (`mini` only); None or "" for random weights.
            image_size: side the position embeddings are made for; None is the size's own (1024 for the real
                ones). Weights made for another side have theirs resized, as `forward` does with images of another
                size. It does not limit what can be fed in.
            seed: of random weights.

        Raises:
            ValueError: unknown name, unreadable file, or weights of another encoder.
            FileNotFoundError: no such file.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with Unfilled() if weights else nullcontext():
                encoder = build_image_encoder(name, image_size=image_size)
            if not weights:
                _randomize_positions(encoder)
        if weights:
            _load(encoder, name, _shipped_file(name) if weights == SHIPPED else Path(weights))
        return cls(encoder=encoder, name=name)

    @classmethod
    def names(cls) -> list[str]:
        return list(SIZES)

    @classmethod
    def check_weights(cls, *, key: str, name: str, weights: str) -> None:
        if cls.finds_weights(weights):
            return
        official = known_file(weights)
        if official is None or official.model != name:
            sizes = {file.model: file.filename for file in WEIGHTS.values() if file.kind == "sam"}
            known = f"the official ones are called {sizes[name]}" if name in sizes else f"{name} has no official ones"
            raise ValueError(
                f"{key}.WEIGHTS {weights!r} is neither a file nor called as the official weights of "
                f"{key}.NAME {name!r}: {known}."
            )

    @frozen
    def forward(self, images: Tensor, *, strides: Sequence[int] | None = None) -> FeatureMaps:
        """Encode images (METHOD.md 1.1).

        Matrix products are in autocast's type where autocast is on, and otherwise in the weights' own; what is added
        up from block to block is always in float32.

        Args:
            images: B×3×H×W float32, RGB in [0, 255], padded so that p divides H and W.
            strides: there is one, p.

        Returns:
            {p: B×C×H/p×W/p float32}.

        Raises:
            ValueError: another number of dimensions or channels, or p does not divide H or W.
        """
        self.check_input(images, strides)
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride or not height or not width:
            raise ValueError(
                f"SAM {self.name} needs a height and width divisible by its patch size {self.stride}, "
                f"got {height}×{width}; pad the images first"
            )
        encoder = self.encoder
        dtype = working_dtype(encoder.patch_embed.proj.weight)
        with no_autocast(images.device):
            x = _convolve(encoder.patch_embed.proj, (images - self.pixel_mean) / self.pixel_std, dtype)
            x = x.permute(0, 2, 3, 1).float()
            x = (x + resize_positions(encoder.pos_embed, x.shape[1], x.shape[2])).contiguous()
            for block in encoder.blocks:
                x = run_block(block, x, dtype)
            x = x.permute(0, 3, 1, 2)
            for convolution, norm in zip(encoder.neck[::2], encoder.neck[1::2], strict=True):
                x = norm(_convolve(convolution, x, dtype).float())
        return {self.stride: x}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the encoder's name and weights; the format of their file is no part of it."""
        return digest_tensors(self.encoder.state_dict(), "sam", self.name)


def resize_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """Absolute position embedding 1×h×w×D for a grid of height×width patches: bicubic, untouched at its own
    size."""
    if positions.shape[1:3] == (height, width):
        return positions
    channels_first = positions.permute(0, 3, 1, 2).float()
    resized = F.interpolate(channels_first, size=(height, width), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(positions.dtype)


def _convolve(layer: nn.Conv2d, x: Tensor, dtype: torch.dtype) -> Tensor:
    bias = None if layer.bias is None else layer.bias.to(dtype)
    return F.conv2d(x.to(dtype), layer.weight.to(dtype), bias, layer.stride, layer.padding)


def _randomize_positions(encoder: ImageEncoderViT) -> None:
    # segment_anything starts positions at zero, which would make a random encoder blind to where things are.
    for key, parameter in encoder.named_parameters():
        if "pos_embed" in key or "rel_pos" in key:
            nn.init.trunc_normal_(parameter, std=0.02)


def _shipped_file(name: str) -> Path:
    official = WEIGHTS.get(f"sam_{name}")
    fetch = f"; `possam weights download {official.name}` fetches {official.filename}" if official else ""
    return shipped_file(_SHIPPED_FILES, name, key="weights", instead=fetch)


def _load(encoder: ImageEncoderViT, name: str, path: Path) -> None:
    state = read_state_dict(path, kind="SAM", official=WEIGHTS.get(f"sam_{name}"))
    if any(key.startswith(_PREFIX) for key in state):
        # A whole SAM: the prompt encoder and the mask decoder are not ours to load.
        state = {key.removeprefix(_PREFIX): v for key, v in state.items() if not key.startswith(_OTHER_PARTS)}
    expected = encoder.state_dict()
    described = _describe(state)
    if problems := differences(expected, resized := _resized(state, expected, SIZES[name])):
        raise ValueError(
            f"the weights in {path} do not fit SAM {name}, which expects {_describe(expected)}; "
            f"the file holds {described} ({problems}){_fix(name, state)}"
        )
    if wrong := not_finite(resized):
        raise ValueError(f"{path} holds SAM weights that are NaN or infinite: {wrong}; download or copy it again")
    take_over(encoder, resized)


def _resized(state: dict[str, Tensor], expected: dict[str, Tensor], size: SAMSize) -> dict[str, Tensor]:
    """The state with the positions of an encoder for another image size resized to the expected ones."""
    spanning = tuple(f"blocks.{index}.attn.rel_pos" for index in size.global_attn_indexes)  # others know windows only
    result = dict(state)
    for key, wanted in expected.items():
        found = state.get(key)
        if found is None or found.shape == wanted.shape or found.dim() != wanted.dim():
            continue
        if key == "pos_embed" and found.shape[-1] == wanted.shape[-1]:
            result[key] = resize_positions(found, wanted.shape[1], wanted.shape[2])
        elif key.startswith(spanning) and found.shape[-1] == wanted.shape[-1]:
            result[key] = resize_relative_positions(found, len(wanted))
    return result


def _known_size(state: dict[str, Tensor]) -> str | None:
    patch = state.get("patch_embed.proj.weight")
    if patch is None or patch.dim() != 4:
        return None
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    return next((name for name, size in SIZES.items() if (size.embed_dim, size.depth) == (len(patch), depth)), None)


def _fix(name: str, state: dict[str, Tensor]) -> str:
    found = _known_size(state)
    if found is not None and found != name:
        fix = f". Set MODEL.SAM.NAME to {found}, or give weights of {name}"
        return fix + (f" (`possam weights download sam_{name}`)" if f"sam_{name}" in WEIGHTS else "")
    return f". `possam weights download sam_{name}` fetches the official weights" if f"sam_{name}" in WEIGHTS else ""


def _describe(state: dict[str, Tensor]) -> str:
    """Size of an encoder's state dict in words, with the name of the known size it has."""
    patch, position = state.get("patch_embed.proj.weight"), state.get("pos_embed")
    if patch is None or position is None or patch.dim() != 4 or position.dim() != 4:
        return f"no SAM image encoder{_resembles(state)}"
    width, side = patch.shape[0], patch.shape[-1]
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    known = _known_size(state)
    label = f"{known}: " if known else ""
    return f"{label}width {width}, depth {depth}, patch {side}, positions for {position.shape[1] * side} pixels"


def _resembles(state: dict[str, Tensor]) -> str:
    for part, what in _STRANGERS.items():
        if any(part in key for key in state):
            return f", but what looks like {what}"
    return ""
