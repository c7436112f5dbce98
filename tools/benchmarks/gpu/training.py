"""The training step of a system at 1024² pixels, run eagerly: images a second, memory, losses in half precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.systems import Batch, batch_of, build, short, train_step
from possam.d2.config import CfgNode
from possam.d2.utils import EventStorage
from possam.models import OpenVocabularySegmenter

BATCHES = (1, 2, 4)
MEMORIES = (24, 48, 80, 141)
"""GB (10⁹ bytes) of devices."""
CONTEXT = 10**9  # bytes that CUDA's context and its libraries are taken to need beside PyTorch's memory


def run(bench: Bench, system: str) -> None:
    cfg, model = build(bench, system)
    bench.step("losses against fp32, bf16", partial(compare_losses, bench, model, torch.bfloat16))
    bench.step("losses against fp32, fp16", partial(compare_losses, bench, model, torch.float16))
    peaks: dict[int, int] = {}
    for images in BATCHES[:2] if bench.tiny else BATCHES:
        if found := bench.step(f"step, bf16, batch {images}", partial(step, bench, cfg, model, images, torch.bfloat16)):
            peaks[images] = found["reserved_bytes"]
    for dtype in (None, torch.float16):
        bench.step(f"step, {short(dtype)}, batch 2", partial(step, bench, cfg, model, 2, dtype))
    bench.step("largest batch, bf16", partial(largest_batches, peaks), least=0)


def step(
    bench: Bench, cfg: CfgNode, model: OpenVocabularySegmenter, images: int, dtype: torch.dtype | None
) -> dict[str, Any]:
    """Time and memory of whole steps: losses, gradients, clipping, AdamW."""
    training = train_step(cfg, model, batch_of(bench, model, images), dtype)

    def work() -> None:
        with EventStorage():  # where it writes its losses
            training.run_step()

    work()  # AdamW makes its state
    memory = bench.memory(work)
    seconds = bench.time(work, runs=3)
    model.zero_grad(set_to_none=True)
    model.eval()
    return {"seconds": seconds, "images_per_second": images / seconds, **memory}


def losses(bench: Bench, model: OpenVocabularySegmenter, batch: Batch, dtype: torch.dtype | None) -> dict[str, float]:
    """The losses of a batch, at the same random points whenever this is called."""
    model.train()
    torch.manual_seed(1)
    with bench.autocast(dtype):
        found = {name: loss.item() for name, loss in model.losses(batch).items()}
    model.eval()
    return found


def compare_losses(bench: Bench, model: OpenVocabularySegmenter, dtype: torch.dtype) -> dict[str, Any]:
    """How far the sum of the losses is from that in fp32, relatively, and the worst of them."""
    batch = batch_of(bench, model, 1)
    return differences(losses(bench, model, batch, dtype), losses(bench, model, batch, None))


def differences(found: dict[str, float], exact: dict[str, float], tolerance: float = 0.1) -> dict[str, Any]:
    total, expected = sum(found.values()), sum(exact.values())
    each = {name: abs(found[name] - value) / max(abs(value), 1e-6) for name, value in exact.items()}
    worst = max(each, key=lambda name: each[name])
    return {
        "total": total,
        "reference_total": expected,
        "error": abs(total - expected) / expected,
        "tolerance": tolerance,
        "worst": f"{worst} {each[worst]:.1e}",
    }


def largest_batches(peaks: dict[int, int]) -> dict[str, Any]:
    """Images that fit devices, by a straight line through what PyTorch reserved at the batches that were measured.

    Raises:
        ValueError: fewer than two were measured, or memory does not grow with the batch.
    """
    if len(peaks) < 2:
        raise ValueError(f"a line needs two batches, but only {sorted(peaks)} was measured")
    slope, start = np.polyfit(list(peaks), list(peaks.values()), 1)
    if slope <= 0:
        raise ValueError(f"memory does not grow with the batch: {peaks}")
    fits = {f"{memory} GB": max(0, int((memory * 10**9 - CONTEXT - start) / slope)) for memory in MEMORIES}
    about = f"linear fit of batches {', '.join(map(str, peaks))}"
    return {"fits": fits, "by": about, "gb_per_image": round(slope / 1e9, 3), "gb_fixed": round(start / 1e9, 3)}
