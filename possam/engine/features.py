"""Computes the frozen features of a training set before training, when `INPUT.CACHE_FEATURES` asks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from possam.d2.config import CfgNode
from possam.d2.utils import comm
from possam.data import sample_key
from possam.encoders import FeatureCache
from possam.engine.datasets import build_test_mapper
from possam.models import PosSAM
from possam.vocabulary import Vocabulary

BATCH_SIZE = 16


def training_features(cfg: CfgNode, model: PosSAM, records: list[dict[str, Any]]) -> FeatureCache:
    """Features of every image of `records`, plain and mirrored, from disk or computed now by the main process.

    The file's name is a hash of the encoders' weights, the input size and the images, so a change of any of them
    computes anew. All processes read the same file.
    """
    path = Path(cfg.INPUT.FEATURE_FOLDER) / f"{_signature(cfg, model, records)}.safetensors"
    cache = FeatureCache.load(path)
    if cache is None and comm.is_main_process():
        samples = track(
            _samples(cfg, records, model.train_vocabulary), "Frozen features", total=2 * len(records), transient=True
        )
        cache = FeatureCache.compute(samples, model.encode, count=2 * len(records), batch_size=BATCH_SIZE)
        cache.save(path)
    comm.synchronize()
    cache = cache or FeatureCache.load(path)
    if cache is None:
        raise RuntimeError(f"The main process wrote no features to {path}; is the folder shared by all machines?")
    return cache


def _samples(cfg: CfgNode, records: list[dict[str, Any]], vocabulary: Vocabulary) -> Iterator[tuple[str, Tensor]]:
    mapper = build_test_mapper(cfg, vocabulary)
    for record in records:
        image = mapper(record)["image"]
        yield sample_key(record["file_name"], image, flipped=False), image
        yield sample_key(record["file_name"], image, flipped=True), torch.flip(image, dims=[-1])


def _signature(cfg: CfgNode, model: PosSAM, records: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    parts: list[object] = [model.sam.fingerprint, model.clip.fingerprint, cfg.MODEL.CLIP.INPUT_SCALE]
    parts += [cfg.INPUT.IMAGE_SIZE, cfg.INPUT.PAD_TO_SQUARE]
    for record in records:
        status = Path(record["file_name"]).stat()
        parts += [record["file_name"], status.st_size, status.st_mtime_ns]
    for part in parts:
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()[:16]
