"""The settings that decide how a model is trained: what a checkpoint keeps, and how those of a resumed run differ."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from possam.config import keys_of, migrate
from possam.config.tree import flatten, plain
from possam.d2.config import CfgNode

__all__ = ["differences", "effective_keys", "fixed_keys", "images_digest", "training_settings"]

def fixed_keys(cfg: CfgNode) -> list[str]:
    """What makes the order of the data or the model: a run with other values is another run. Weights of frozen encoders
    are not among them, but compared by fingerprint."""
    return [name for name, key in keys_of(cfg.MODEL.META_ARCHITECTURE).items() if key.resume == "fixed"]


def effective_keys(cfg: CfgNode) -> list[str]:
    """What a resumed run may change: it holds from its first step on."""
    return [name for name, key in keys_of(cfg.MODEL.META_ARCHITECTURE).items() if key.resume == "effective"]


def training_settings(cfg: CfgNode) -> dict[str, Any]:
    """The values of `fixed_keys` and `effective_keys`, as plain data without settings of the machine."""
    values = flatten(cfg)
    return {key: plain(values[key]) for key in (*fixed_keys(cfg), *effective_keys(cfg))}


def differences(saved: Mapping[str, Any], present: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """The settings among `keys` that two runs have both and differ in, each as "KEY was …, is …", sorted.

    Args:
        saved: of a checkpoint, which may be of a version that knows other keys, or has other names for them.
        present: of `training_settings`.
    """
    saved, _ = migrate(saved)
    return [
        f"{key} was {saved[key]!r}, is {present[key]!r}"
        for key in sorted(saved.keys() & present.keys() & set(keys))
        if saved[key] != present[key]
    ]


def images_digest(records: Iterable[Mapping[str, Any]]) -> str:
    """sha256 (hex) of the file names of a training set's images, in their order, wherever their folders are."""
    names = "\n".join(os.path.basename(record["file_name"]) for record in records)
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()
