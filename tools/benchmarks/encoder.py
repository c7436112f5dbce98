"""The frozen image encoders against `segment_anything`'s and `open_clip`'s own, with random weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor, nn

from benchmarks.case import Case, Work, relative_error
from possam.encoders import FrozenCLIP, FrozenSAM

_SIDE = 1024
_CLIP = "convnext_base_w_320"


def cases(device: str) -> list[Case]:
    """SAM in both precisions, and CLIP's tower; on CUDA everything in bfloat16 as it runs there, four images."""
    if device == "cuda":
        return [_sam(device, name, low=True, images=4) for name in ("vit_b", "vit_h")]
    clip = Case(
        name=f"CLIP {_CLIP} {_SIDE}² float32",
        reference="open_clip, as timm runs it",
        ours=lambda: _ours(_clip(device), device, 1, low=False),
        theirs=lambda: _their_clip(device),
        error=relative_error,
        tolerance=1e-5,
        runs=2,
    )
    return [_sam(device, "vit_b", low=False, images=1), _sam(device, "vit_b", low=True, images=1), clip]


def _sam(device: str, name: str, *, low: bool, images: int) -> Case:
    """On the CPU both precisions are held against float32; on CUDA the reference is under autocast as well."""
    both = low and device == "cuda"
    return Case(
        name=f"SAM {name} {images}×{_SIDE}² {'bfloat16' if low else 'float32'}",
        reference=f"segment_anything {'bfloat16' if both else 'float32'}",
        ours=lambda: _ours(_encoder(name, device), device, images, low=low),
        theirs=lambda: _their_sam(name, device, images, low=both),
        error=relative_error,
        tolerance=1e-2 if low else 1e-5,
        time_target=0.4 if both else 0.45 if low else 0.78,
        memory_target=None if low else 0.42,
        runs=2 if device == "cpu" else 5,
    )


@cache
def _encoder(name: str, device: str) -> FrozenSAM:
    return FrozenSAM.build(name=name).to(device)


@cache
def _clip(device: str) -> FrozenCLIP:
    return FrozenCLIP.build(name=_CLIP, weights=None).to(device)


def _images(device: str, count: int) -> Tensor:
    return 255 * torch.rand(count, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0)).to(device)


def _precision(device: str, low: bool) -> AbstractContextManager[object]:
    return torch.autocast(device, torch.bfloat16) if low else nullcontext()


def _ours(encoder: nn.Module, device: str, count: int, *, low: bool) -> Work:
    images = _images(device, count)

    def work() -> Tensor:
        with _precision(device, low):
            return encoder(images)

    return work


def _their_sam(name: str, device: str, count: int, *, low: bool) -> Work:
    frozen, images = _encoder(name, device), _images(device, count)

    @torch.no_grad()
    def work() -> Tensor:
        with _precision(device, low):
            return frozen.encoder((images - frozen.pixel_mean) / frozen.pixel_std)

    return work


def _their_clip(device: str) -> Work:
    frozen, images = _clip(device), _images(device, 1)

    @torch.no_grad()
    def work() -> Tensor:
        return frozen.model.visual.trunk.forward_features((images - frozen.pixel_mean) / frozen.pixel_std)

    return work
