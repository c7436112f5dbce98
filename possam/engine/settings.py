"""The settings that decide how a model is trained: what a checkpoint keeps, and how those of a resumed run differ."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from possam.d2.config import CfgNode
from possam.models import model_spec

__all__ = ["EFFECTIVE", "FIXED", "differences", "fixed_keys", "images_digest", "training_settings"]

FIXED = (
    "SEED", "DATASETS.TRAIN", "DATALOADER.ASPECT_RATIO_GROUPING",
    "MODEL.META_ARCHITECTURE", "MODEL.PYRAMID", "MODEL.DECODER", "MODEL.EMBEDDING", "MODEL.LDP",
)  # fmt: skip
"""What makes the order of the data or the model: a run with others is another run. Nodes stand for all their keys.
Settings of the frozen encoders come on top, see `fixed_keys`."""

EFFECTIVE = (
    "FLOAT32_PRECISION",
    "INPUT.AUGMENTATION", "INPUT.CACHE_FEATURES", "INPUT.FORMAT", "INPUT.IMAGE_SIZE", "INPUT.PAD_TO_SQUARE",
    "MODEL.LOSS",
    "SOLVER.ACCUMULATE", "SOLVER.AMP.ENABLED", "SOLVER.AMP.PRECISION", "SOLVER.BASE_LR", "SOLVER.BASE_LR_END",
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "SOLVER.CLIP_GRADIENTS.ENABLED",
    "SOLVER.GAMMA", "SOLVER.IMS_PER_BATCH", "SOLVER.LR_SCHEDULER_NAME", "SOLVER.MAX_ITER", "SOLVER.NON_FINITE",
    "SOLVER.NUM_DECAYS", "SOLVER.OPTIMIZER_EPS", "SOLVER.RESCALE_INTERVAL", "SOLVER.STEPS", "SOLVER.WARMUP_FACTOR",
    "SOLVER.WARMUP_ITERS", "SOLVER.WARMUP_METHOD",
    "SOLVER.WEIGHT_DECAY", "SOLVER.WEIGHT_DECAY_EMBED", "SOLVER.WEIGHT_DECAY_NORM",
)  # fmt: skip
"""What a resumed run may change: it holds from its first step on."""


def fixed_keys(cfg: CfgNode) -> tuple[str, ...]:
    """`FIXED` and the settings of the system's frozen encoders but their weights, which are compared by fingerprint."""
    roles = [role.upper() for role in model_spec(cfg.MODEL.META_ARCHITECTURE).encoders]
    encoders = (f"MODEL.{role}.{key}" for role in roles for key in cfg.MODEL[role] if key not in ("WEIGHTS", "SEED"))
    return (*FIXED, *encoders)


def training_settings(cfg: CfgNode) -> dict[str, Any]:
    """The values of `fixed_keys` and `EFFECTIVE` by their full keys, as plain data without settings of the machine."""
    found: dict[str, Any] = {}
    for key in (*fixed_keys(cfg), *EFFECTIVE):
        value: Any = cfg
        for part in key.split("."):
            value = value[part]
        found |= _leaves(key, value)
    return found


def differences(saved: Mapping[str, Any], present: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """The settings under `keys` that two runs have both and differ in, each as "KEY was …, is …", sorted.

    Args:
        saved, present: of `training_settings`; versions that know more keys than others can be compared.
        keys: of settings or of nodes.
    """
    wanted = tuple(keys)
    return [
        f"{key} was {saved[key]!r}, is {present[key]!r}"
        for key in sorted(saved.keys() & present.keys())
        if saved[key] != present[key] and any(key == one or key.startswith(f"{one}.") for one in wanted)
    ]


def images_digest(records: Iterable[Mapping[str, Any]]) -> str:
    """sha256 (hex) of the file names of a training set's images, in their order, wherever their folders are."""
    names = "\n".join(os.path.basename(record["file_name"]) for record in records)
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()


def _leaves(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {name: leaf for part, below in value.items() for name, leaf in _leaves(f"{key}.{part}", below).items()}
    return {key: list(value) if isinstance(value, tuple) else value}
