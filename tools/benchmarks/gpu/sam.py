"""SAM's image encoder against segment_anything's own, run eagerly: the same modules, both under autocast to bf16."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import relative_error
from benchmarks.gpu.bench import Bench
from possam.encoders import FrozenSAM


def run(bench: Bench) -> None:
    for name in ("vit_tiny",) if bench.tiny else ("vit_b", "vit_h"):
        encoder = FrozenSAM.build(name=name).to(bench.device)
        for images in (1, 4):
            bench.step(f"{name}, batch {images}, bf16", partial(_compare, bench, encoder, images))
        del encoder


@torch.no_grad()
def _compare(bench: Bench, encoder: FrozenSAM, images: int) -> dict[str, Any]:
    side = 128 if bench.tiny else 1024
    batch = 255 * torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(0)).to(bench.device)

    def ours() -> Tensor:
        with bench.autocast(torch.bfloat16):
            return encoder.final(batch)

    def theirs() -> Tensor:
        with bench.autocast(torch.bfloat16):
            found: Tensor = encoder.encoder((batch - encoder.pixel_mean) / encoder.pixel_std)
        return found

    exact = encoder.final(batch)
    error, their_error = (relative_error(side(), exact) for side in (ours, theirs))
    seconds, reference = bench.time(ours), bench.time(theirs)
    return {
        "seconds": seconds,
        "images_per_second": images / seconds,
        "reference_seconds": reference,
        "reference_images_per_second": images / reference,
        "peak_bytes": bench.peak(ours),
        "reference_peak_bytes": bench.peak(theirs),
        "error": error,
        "tolerance": 5e-2,
        "reference_error": their_error,
    }
