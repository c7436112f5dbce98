"""Whether the same inputs give the same results again, to the last bit, and what PyTorch says of its operators."""

from __future__ import annotations

import re
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.systems import Batch, batch_of, build
from benchmarks.gpu.training import losses
from possam.models import OpenVocabularySegmenter


def run(bench: Bench) -> None:
    _, model = build(bench, "PosSAM-B")
    batch = batch_of(bench, model, 1)
    bench.step("inference, twice", partial(_inference, bench, model, batch))
    bench.step("losses, twice", partial(_losses, bench, model, batch))
    bench.step("gradients, twice", partial(_gradients, bench, model, batch))
    bench.step("operators of a training step without a deterministic form", partial(_operators, bench, model, batch))


@torch.no_grad()
def _inference(bench: Bench, model: OpenVocabularySegmenter, batch: Batch) -> dict[str, Any]:
    with bench.autocast(torch.bfloat16):
        (first,), (second,) = model(batch), model(batch)
    pairs = {
        "panoptic": (first["panoptic_seg"][0], second["panoptic_seg"][0]),
        "semantic": (first["semantic_seg"], second["semantic_seg"]),
        "instance scores": (first["instances"].scores, second["instances"].scores),
    }
    return {"identical": {name: torch.equal(*pair) for name, pair in pairs.items()}}


def _losses(bench: Bench, model: OpenVocabularySegmenter, batch: Batch) -> dict[str, Any]:
    first, second = (losses(bench, model, batch, torch.bfloat16) for _ in range(2))
    return {"identical": first == second, "error": max(abs(first[name] - second[name]) for name in first)}


def _gradients(bench: Bench, model: OpenVocabularySegmenter, batch: Batch) -> dict[str, Any]:
    first, second = _gradient(bench, model, batch), _gradient(bench, model, batch)
    return {
        "identical": torch.equal(first, second),
        "error": ((first - second).norm() / first.norm()).item(),
        "tolerance": 1e-2,
    }


def _gradient(bench: Bench, model: OpenVocabularySegmenter, batch: Batch) -> Tensor:
    """All gradients of a training step, one after the other."""
    model.train()
    torch.manual_seed(1)
    with bench.autocast(torch.bfloat16):
        total = torch.stack(list(model.losses(batch).values())).sum()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(total, trained)])
    model.eval()
    return found


def _operators(bench: Bench, model: OpenVocabularySegmenter, batch: Batch) -> dict[str, Any]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _gradient(bench, model, batch)
    finally:
        torch.use_deterministic_algorithms(False)
    pattern = re.compile(r"(.{1,80}?) (?:does not have a |defaults to a non-)deterministic")
    said = (pattern.match(str(each.message)) for each in caught)
    return {"operators": ", ".join(sorted({each[1] for each in said if each})) or "none"}
