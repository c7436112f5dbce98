"""The text bank: COCO's classes in the templates, computed and read from disk, against open_clip's `encode_text`."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.case import largest_difference
from benchmarks.gpu.bench import Bench
from possam.encoders import FrozenCLIP
from possam.vocabulary import TextBank, Vocabulary
from possam.vocabulary.templates import VILD_TEMPLATES, fill_template

BATCH = 256


def run(bench: Bench) -> None:
    name = "mini_strong" if bench.tiny else "convnext_large_d_320"
    clip = FrozenCLIP.build(name=name, weights=None).to(bench.device)
    names = ["red square", "blue circle"] if bench.tiny else list(Vocabulary.load("coco_panoptic").display_names)
    bench.step(f"{len(names)} classes, {len(names) * len(VILD_TEMPLATES)} prompts", partial(_embed, bench, clip, names))


def _embed(bench: Bench, clip: FrozenCLIP, names: list[str]) -> dict[str, Any]:
    vocabulary = Vocabulary.from_names(names)
    _ = clip.text_fingerprint  # computed once for an encoder
    with tempfile.TemporaryDirectory() as folder:
        seconds, found = _timed(TextBank(encoder=clip, directory=folder), vocabulary)
        from_disk, again = _timed(TextBank(encoder=clip, directory=folder), vocabulary)
    start = time.perf_counter()
    theirs = _open_clip(bench, clip, names)
    return {
        "seconds": seconds,
        "prompts_per_second": len(names) * len(VILD_TEMPLATES) / seconds,
        "from_disk_seconds": from_disk,
        "reference_seconds": time.perf_counter() - start,
        "error": max(largest_difference(found, theirs), largest_difference(found, again)),
        "tolerance": 1e-5,
    }


def _timed(bank: TextBank, vocabulary: Vocabulary) -> tuple[float, Tensor]:
    start = time.perf_counter()
    embeddings = bank.embed(vocabulary).embeddings  # on the CPU, so that the device is done
    return time.perf_counter() - start, embeddings


@torch.no_grad()
def _open_clip(bench: Bench, clip: FrozenCLIP, names: list[str]) -> Tensor:
    prompts = [fill_template(template, name) for name in names for template in VILD_TEMPLATES]
    tokens = clip._tokenizer(prompts, clip.context_length)
    rows = [clip.model.encode_text(part.to(bench.device), normalize=True) for part in tokens.split(BATCH)]
    means = torch.cat(rows).unflatten(0, (len(names), -1)).mean(1)
    return normalize(means, dim=-1).cpu()
