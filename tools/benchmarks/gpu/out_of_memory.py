"""What happens where the device's memory gives out: merging goes on on the CPU, and a training step says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.systems import batch_of, build, train_step
from possam.d2.config import CfgNode
from possam.d2.utils import EventStorage
from possam.inference import Postprocessor
from possam.models import OpenVocabularySegmenter
from possam.models.prediction import Prediction

SPARE = 2**26  # bytes above what is in use that are left to merging


def run(bench: Bench) -> None:
    cfg, model = build(bench, "PosSAM-B")
    bench.step("merging, 250 masks at 2048²", partial(_merging, bench, model))
    bench.step("training step", partial(_training, bench, cfg, model))


@torch.no_grad()
def _merging(bench: Bench, model: OpenVocabularySegmenter) -> dict[str, Any]:
    side = 64 if bench.tiny else 2048
    (inputs,) = batch_of(bench, model, 1)
    (seen,) = model.predict([inputs])
    prediction: Prediction = replace(seen, output_size=(side, side))
    scores = model.score(prediction)
    expected = model.postprocess(prediction, scores, model.tasks)
    with _scarce(bench):
        found = model.postprocess(replace(prediction), scores, model.tasks)
    ids, classes = found["panoptic_seg"][0], found["semantic_seg"]
    wrong = [
        (ids.cpu() != expected["panoptic_seg"][0].cpu()).float().mean().item(),
        (classes.cpu() != expected["semantic_seg"].cpu()).float().mean().item(),
    ]
    if bench.cuda and ids.is_cuda:
        raise RuntimeError("memory was to give out, and did not")
    # Two sums may tie within the rounding of float32.
    return {"result_on": str(ids.device), "error": max(wrong), "tolerance": 1e-3}


@contextmanager
def _scarce(bench: Bench) -> Iterator[None]:
    """Leave a device little more memory than is in use; on a CPU let the first attempt to merge fail."""
    if bench.cuda:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + SPARE) / total)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    merge = Postprocessor._merge
    failures = iter([torch.OutOfMemoryError("a test's")])

    def scarce(*arguments: Any) -> Any:
        for failure in failures:
            raise failure
        return merge(*arguments)

    with mock.patch.object(Postprocessor, "_merge", scarce):
        yield


def _training(bench: Bench, cfg: CfgNode, model: OpenVocabularySegmenter) -> dict[str, Any]:
    training = train_step(cfg, model, batch_of(bench, model, 1), None)
    fails = mock.patch.object(model, "losses", side_effect=torch.OutOfMemoryError("a test's"))
    try:
        with EventStorage(), _scarce(bench) if bench.cuda else fails:
            training.run_step()
    except MemoryError as error:
        return {"says": str(error)[-120:]}
    finally:
        model.eval()
    raise RuntimeError("memory was to give out, and did not")
