"""`MODEL.COMPILE`: what torch.compile makes of a system's training step and inference in bf16, against eager runs."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.inference import _whole
from benchmarks.gpu.systems import Batch, batch_of, build
from benchmarks.gpu.training import differences, losses, step
from possam.models import OpenVocabularySegmenter
from possam.models.compiled import compile_parts

PARTS = ("sam", "clip", "pyramid", "pixel_decoder", "mask_decoder")
BF16 = torch.bfloat16


def run(bench: Bench, system: str) -> None:
    cfg, model = build(bench, system)
    batch = batch_of(bench, model, 2)  # one size for all, since another is compiled anew
    bench.step("step, eager, batch 2", partial(step, bench, cfg, model, 2, BF16))
    eager = losses(bench, model, batch, BF16)
    # Inductor takes minutes on a CPU, and what precedes it half a minute.
    parts, options = (PARTS, {}) if bench.cuda else (PARTS[-1:], {"backend": "eager"})
    compile_parts(*(getattr(model, name, None) for name in parts), **options)
    bench.step("losses against eager, and compilation", partial(_losses, bench, model, batch, eager), least=30)
    bench.step("step, compiled, batch 2", partial(step, bench, cfg, model, 2, BF16), least=10)
    bench.step("inference, compiled, batch 2", partial(_whole, bench, model, batch[0], BF16, images=2), least=20)


def _losses(
    bench: Bench, model: OpenVocabularySegmenter, batch: Batch, eager: dict[str, float]
) -> dict[str, Any]:
    start = time.monotonic()
    found = losses(bench, model, batch, BF16)
    return {**differences(found, eager), "compilation_seconds": round(time.monotonic() - start, 1)}
