"""A system that takes prompts: an image encoded once, then clicks, one and 64 at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.systems import batch_of, build, short
from possam.inference.prompted import point_grid
from possam.layers.prompts import Prompts
from possam.models import OpenVocabularySegmenter
from possam.predict.prompting import EncodedImage


def run(bench: Bench, system: str) -> None:
    _, model = build(bench, system)
    (inputs,) = batch_of(bench, model, 1)
    image = np.ascontiguousarray(inputs["image"].permute(1, 2, 0).numpy())
    for dtype in (None, torch.bfloat16):
        bench.step(f"encode, {short(dtype)}", partial(_encode, bench, model, image, dtype))
        for side in (1, 8):
            name = f"{side * side} clicks at once, {short(dtype)}"
            bench.step(name, partial(_click, bench, model, image, dtype, side))


def _encode(bench: Bench, model: OpenVocabularySegmenter, image: Any, dtype: torch.dtype | None) -> dict[str, Any]:
    def work() -> EncodedImage:
        with bench.autocast(dtype):
            return EncodedImage(model, image)

    seconds = bench.time(work, runs=3)
    return {"seconds": seconds, "images_per_second": 1 / seconds, "peak_bytes": bench.peak(work)}


def _click(
    bench: Bench, model: OpenVocabularySegmenter, image: Any, dtype: torch.dtype | None, side: int
) -> dict[str, Any]:
    with bench.autocast(dtype):
        encoded = EncodedImage(model, image)
    clicks = Prompts(points=point_grid(side, encoded.size)[:, None])

    def work() -> None:
        with bench.autocast(dtype):
            encoded.prompt(clicks, model.train_vocabulary)

    return {"seconds": bench.time(work), "peak_bytes": bench.peak(work)}
