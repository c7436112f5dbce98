"""The frozen image encoder of SAM (METHOD.md 1.1): `segment_anything`'s own `ImageEncoderViT` at any input
size.

Shape legend: B images, H×W padded input, p patch size, C channels after the neck.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

SHIPPED = "shipped"
_SHIPPED_FILES = {"mini": Path(__file__).parent / "weights" / "mini_sam.safetensors"}
# SAM's preprocessing (segment_anything/build_sam.py): RGB mean and deviation on the 0..255 scale.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
_PREFIX = "image_encoder."
_OTHER_PARTS = ("prompt_encoder.", "mask_decoder.", "pixel_")


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
    """An `ImageEncoderViT` with `segment_anything`'s initialisation, trainable.

    Raises:
        ValueError: an unknown `name`, or an `image_size` that the patch size does not divide.
    """
    if name not in SIZES:
        near = difflib.get_close_matches(name, SIZES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown SAM encoder {name!r}{hint}. Valid names: {', '.join(SIZES)}")
    size = SIZES[name]
    side = size.image_size if image_size is None else image_size
    if side <= 0 or side % size.patch_size:
        raise ValueError(
            f"image_size of {name} must be a positive multiple of its patch size {size.patch_size}, "
            f"got {side}"
        )
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


class FrozenSAM(nn.Module):
    """SAM's image encoder, never trained: no gradients, always in eval mode, whatever is asked of the model
    around it.

    Attributes:
        stride: side of a patch p, the stride of the features.
        out_channels: C.
        fingerprint: identity of the weights, for caches of features.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, *, encoder: ImageEncoderViT, name: str) -> None:
        super().__init__()
        self.name = name
        self.encoder = encoder
        self.stride: int = encoder.patch_embed.proj.kernel_size[0]
        self.out_channels: int = encoder.neck[0].out_channels
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False)
        self._fingerprint: str | None = None
        self.requires_grad_(False)
        self.train(False)

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
                ones). It must agree with the weights and does not limit what can be fed in.
            seed: of random weights.

        Raises:
            ValueError: unknown name, unreadable file, or weights of another encoder.
            FileNotFoundError: no such file.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = build_image_encoder(name, image_size=image_size)
            if not weights:
                _randomise_positions(encoder)
        if weights:
            path = _shipped_file(name) if weights == SHIPPED else Path(weights)
            _load(encoder, name, path)
        return cls(encoder=encoder, name=name)

    def train(self, mode: bool = True) -> FrozenSAM:
        """Stays in eval mode: the encoder is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encodes images (METHOD.md 1.1).

        Args:
            images: B×3×H×W float32, RGB in [0, 255], padded so that p divides H and W.

        Returns:
            B×C×H/p×W/p.

        Raises:
            ValueError: another number of dimensions or channels, or p does not divide H or W.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"expected images of shape B×3×H×W, got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride or not height or not width:
            raise ValueError(
                f"SAM {self.name} needs a height and width divisible by its patch size {self.stride}, "
                f"got {height}×{width}; pad the images first"
            )
        encoder = self.encoder
        x = encoder.patch_embed((images - self.pixel_mean) / self.pixel_std)
        x = x + resize_positions(encoder.pos_embed, x.shape[1], x.shape[2])
        for block in encoder.blocks:
            x = block(x)
        return encoder.neck(x.permute(0, 3, 1, 2))

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the encoder's name and weights, computed on first use."""
        if self._fingerprint is None:
            digest = hashlib.sha256(f"sam:{self.name}".encode())
            for key, tensor in sorted(self.encoder.state_dict().items()):
                digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


def resize_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """Absolute position embedding 1×h×w×D for a grid of height×width patches: bicubic, untouched at its own
    size."""
    if positions.shape[1:3] == (height, width):
        return positions
    channels_first = positions.permute(0, 3, 1, 2).float()
    resized = F.interpolate(channels_first, size=(height, width), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(positions.dtype)


def _randomise_positions(encoder: ImageEncoderViT) -> None:
    # segment_anything starts positions at zero, which would make a random encoder blind to where things are.
    for key, parameter in encoder.named_parameters():
        if "pos_embed" in key or "rel_pos" in key:
            nn.init.trunc_normal_(parameter, std=0.02)


def _shipped_file(name: str) -> Path:
    if name not in _SHIPPED_FILES:
        raise ValueError(
            f"no weights come with the package for SAM {name!r}, only for: {', '.join(_SHIPPED_FILES)}. "
            "Give the path of a checkpoint, e.g. sam_vit_b_01ec64.pth for vit_b"
        )
    return _SHIPPED_FILES[name]


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"no SAM weights at {path}: expected a file (.pth, .pt or .safetensors)")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _torch_load(path)
    except Exception as error:  # torch and safetensors raise a dozen types for damaged files
        raise ValueError(f"cannot read SAM weights from {path}: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no SAM state dict: expected a dict of tensors by parameter name")
    return state


def _torch_load(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def _load(encoder: ImageEncoderViT, name: str, path: Path) -> None:
    state = _read(path)
    if any(key.startswith(_PREFIX) for key in state):
        # A whole SAM: the prompt encoder and the mask decoder are not ours to load.
        state = {key.removeprefix(_PREFIX): v for key, v in state.items() if not key.startswith(_OTHER_PARTS)}
    expected = encoder.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:4])}{', …' if len(keys) > 4 else ''}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise ValueError(
            f"the weights in {path} do not fit SAM {name}, which expects {_describe(expected)}; "
            f"the file holds {_describe(state)} ({'; '.join(problems)})"
        )
    if not encoder.patch_embed.proj.weight.is_meta:  # the meta device has no values to fill
        encoder.load_state_dict(state)


def _describe(state: dict[str, Tensor]) -> str:
    """Size of an encoder's state dict in words, with the name of the known size it has."""
    patch, position = state.get("patch_embed.proj.weight"), state.get("pos_embed")
    if patch is None or position is None or patch.dim() != 4 or position.dim() != 4:
        return "no SAM image encoder"
    width, side = patch.shape[0], patch.shape[-1]
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    grid = position.shape[1]
    known = [name for name, size in SIZES.items() if (size.embed_dim, size.depth) == (width, depth)]
    label = f"{known[0]}: " if known else ""
    return f"{label}width {width}, depth {depth}, patch {side}, positions for {grid * side} pixels"
