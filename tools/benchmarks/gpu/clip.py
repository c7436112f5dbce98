"""CLIP's image towers, all maps that a system reads, against open_clip's own pass over the same images."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import relative_error
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.systems import short
from possam.encoders import FrozenCLIP

TOWERS = ("convnext_large_d_320", "RN50x16", "ViT-L-14-336")


def run(bench: Bench) -> None:
    for name in ("mini_strong",) if bench.tiny else TOWERS:
        bench.step(f"{name}, built", partial(_built, bench, name))


def _built(bench: Bench, name: str) -> dict[str, Any]:
    """Build a tower, and measure it in steps of its own."""
    clip = FrozenCLIP.build(name=name, weights=None).to(bench.device)
    side = 96 if bench.tiny else 1024
    images = 255 * torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(bench.device)
    exact = clip.final(images)
    for dtype in (None, torch.bfloat16):
        bench.step(f"{name}, {side}², {short(dtype)}", partial(_encode, bench, clip, images, dtype, exact))
    bench.step(f"{name}, image embedding at its own size", partial(_embedding, bench, clip))
    return {"parameters": f"{sum(p.numel() for p in clip.model.visual.parameters()) / 1e6:.1f} M"}


def _encode(
    bench: Bench, clip: FrozenCLIP, images: Tensor, dtype: torch.dtype | None, exact: Tensor
) -> dict[str, Any]:
    def work() -> Tensor:
        with bench.autocast(dtype):
            return clip.final(images)

    error, seconds = relative_error(work(), exact), bench.time(work)
    peak = bench.peak(work)
    return {
        "seconds": seconds,
        "images_per_second": 1 / seconds,
        "peak_bytes": peak,
        "error": error,
        "tolerance": 1e-5 if dtype is None else 1e-1,
    }


@torch.no_grad()
def _embedding(bench: Bench, clip: FrozenCLIP) -> dict[str, Any]:
    """`embed_images` and open_clip's `encode_image`, both in fp32."""
    images = 255 * torch.rand(1, 3, *clip.native_size, generator=torch.Generator().manual_seed(0)).to(bench.device)

    def theirs() -> Tensor:
        found: Tensor = clip.model.encode_image((images - clip.pixel_mean) / clip.pixel_std, normalize=True)
        return found

    error = relative_error(clip.embed_images(images), theirs())
    return {
        "seconds": bench.time(lambda: clip.embed_images(images)),
        "reference_seconds": bench.time(theirs),
        "error": error,
        "tolerance": 1e-4,
    }
