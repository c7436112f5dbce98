"""Compute the frozen features of a training set before training (`INPUT.CACHE_FEATURES`)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from possam.d2.config import CfgNode
from possam.d2.utils import comm
from possam.data import SegmentationMapper, sample_key
from possam.data.pictures import UnreadableFile
from possam.encoders.feature_cache import SHARD, FeatureCache, missing_shards, shards, write_shard
from possam.engine.datasets import build_test_mapper
from possam.models import OpenVocabularySegmenter
from possam.utils.output import guarded_output

logger = logging.getLogger(__name__)

BATCH_SIZE = 16


@guarded_output()
def training_features(cfg: CfgNode, model: OpenVocabularySegmenter, records: list[dict[str, Any]]) -> FeatureCache:
    """Features of every image of `records`, plain and mirrored, from disk or computed now, the processes sharing it.

    The folder's name is a hash of the encoders' weights, the input size and the images, so a change of any of them
    computes anew. What a run that was stopped has computed, shard by shard, is not computed again.

    Raises:
        OSError: features cannot be written or read.
        ValueError: half precision cannot hold them.
    """
    folder = Path(cfg.INPUT.FEATURE_CACHE_DIR) / _signature(cfg, model, records)
    samples = 2 * len(records)
    missing = missing_shards(folder, samples)
    comm.synchronize()  # all have seen the same before the first writes
    mine = missing[comm.get_rank() :: comm.get_world_size()]
    mapper = build_test_mapper(cfg, model.train_vocabulary)
    encode = partial(model.encode, roles=model.cached_roles)
    if missing:
        logger.info("Computing the frozen features: %d of %d shards, kept in %s", len(missing), shards(samples), folder)
    for done, index in enumerate(track(mine, "Frozen features", transient=True, disable=not comm.is_main_process())):
        first, last = index * SHARD // 2, min((index + 1) * SHARD // 2, len(records))
        starts = range(first, last, BATCH_SIZE // 2)
        batches = (_samples(mapper, records[start : min(start + BATCH_SIZE // 2, last)]) for start in starts)
        write_shard(folder, index, batches, encode, missing=(len(mine) - done) * comm.get_world_size())
    comm.synchronize()
    return FeatureCache(folder=folder, samples=samples)


def _samples(mapper: SegmentationMapper, records: Iterable[dict[str, Any]]) -> list[tuple[str, Tensor]]:
    """Every image plain and mirrored, under its key."""
    samples = []
    for record in records:
        try:
            image = mapper(record)["image"]
        except UnreadableFile:
            # Training draws others in its place: what fills its place in the shard is never asked for.
            image = torch.zeros(3, 1, 1, dtype=torch.uint8)
        samples.append((sample_key(record["file_name"], image, flipped=False), image))
        samples.append((sample_key(record["file_name"], image, flipped=True), torch.flip(image, dims=[-1])))
    return samples


def _signature(cfg: CfgNode, model: OpenVocabularySegmenter, records: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    encoders = {role: model.frozen_encoders[role] for role in model.cached_roles}
    reads = {role: model.reads[role] for role in encoders}
    parts: list[object] = [reads, *(encoder.fingerprint for encoder in encoders.values())]
    if model.backbones:  # else the first encoder decides what images are padded with
        parts.append(model.pad_color.flatten().tolist())
    parts += [cfg.INPUT.IMAGE_SIZE, cfg.INPUT.PAD_TO_SQUARE, SHARD]
    for record in records:
        status = Path(record["file_name"]).stat()
        parts += [record["file_name"], status.st_size, status.st_mtime_ns]
    for part in parts:
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()[:16]
