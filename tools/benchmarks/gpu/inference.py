"""Whole inference of a system on an image of 1024² pixels, and its stages one by one.

With random weights most masks matter everywhere, which is the worst case for merging.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.systems import batch_of, build, short
from possam.models import OpenVocabularySegmenter
from possam.models.prediction import MaskProposals

RUNS = 3


def run(bench: Bench, system: str) -> None:
    _, model = build(bench, system)
    (inputs,) = batch_of(bench, model, 1)
    for dtype in (None, torch.bfloat16):
        bench.step(f"whole, {short(dtype)}", partial(_whole, bench, model, inputs, dtype))
        bench.step(f"stages in ms, {short(dtype)}", partial(_stages, bench, model, inputs, dtype))
    bench.step("two images at once, bf16", partial(_whole, bench, model, inputs, torch.bfloat16, images=2))


def _whole(
    bench: Bench, model: OpenVocabularySegmenter, inputs: dict[str, Any], dtype: torch.dtype | None, images: int = 1
) -> dict[str, Any]:
    @torch.no_grad()
    def work() -> None:
        with bench.autocast(dtype):
            model([inputs] * images)

    seconds = bench.time(work, runs=RUNS)
    return {"seconds": seconds, "images_per_second": images / seconds, "peak_bytes": bench.peak(work)}


def _stages(
    bench: Bench, model: OpenVocabularySegmenter, inputs: dict[str, Any], dtype: torch.dtype | None
) -> dict[str, Any]:
    """Milliseconds by stage, the median of each."""
    passes = []
    for _ in range(1 if bench.tiny else RUNS + 1):
        marks = _Marks(bench)
        with torch.no_grad(), bench.autocast(dtype):
            _pass(model, inputs, marks)
        passes.append(marks.milliseconds())
    warm = passes[1:] or passes
    return {"stages": {name: statistics.median(each[name] for each in warm) for name in warm[0]}}


class _Marks:
    """Ends of stages: CUDA's events, or a clock."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._ends: list[tuple[str, Any]] = []
        self("")

    def __call__(self, stage: str) -> None:
        if not self._bench.cuda:
            self._ends.append((stage, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._ends.append((stage, event))

    def milliseconds(self) -> dict[str, float]:
        if self._bench.cuda:
            torch.cuda.synchronize()
        spans = {}
        for (_, start), (stage, end) in zip(self._ends, self._ends[1:], strict=False):
            spans[stage] = start.elapsed_time(end) if self._bench.cuda else 1000 * (end - start)
        return spans


def _pass(model: OpenVocabularySegmenter, inputs: dict[str, Any], mark: _Marks) -> None:
    """`OpenVocabularySegmenter.forward` of one image, stage by stage."""
    image = inputs["image"]
    features: dict[str, Any] = {}
    for role in model.reads:
        features |= model.encode([image], roles=[role])
        mark(f"encode {role}")
    if model.backbones:
        features |= model.encode_trained([image])
        mark("backbone")
    layers, mask_features = model.decode(features)
    mark("decode")
    final = layers[-1]
    embeddings = model.embed_masks([final], mask_features, features)[0]
    mark("embed masks")
    clip_embeddings, clip_empty = model.embed_masks_by_clip(final.mask_logits, features)
    mark("embed masks by CLIP")
    height, width = image.shape[-2:]
    proposals = MaskProposals(
        mask_logits=final.mask_logits[0].float(),
        query_embeddings=torch.nn.functional.normalize(embeddings[0].float(), dim=-1),
        clip_embeddings=clip_embeddings[0],
        clip_empty=clip_empty[0],
        iou=final.iou[0],
        padded_size=(4 * mask_features.shape[-2], 4 * mask_features.shape[-1]),
        image_size=(height, width),
    )
    prediction = model.classify(proposals, inputs["vocabulary"], (height, width))
    mark("classify")
    scores = model.score(prediction)
    mark("ensemble")
    for task in model.tasks:
        model.postprocess(prediction, scores, (task,))
        mark(task)
