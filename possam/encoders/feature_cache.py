"""Frozen features of a training set, computed once: half precision, in checksummed shards on disk.

A shard is a safetensors file with the features of `SHARD` samples, and the samples' keys and checksums among its
metadata. Only the sample that is asked for is read, so the set may be larger than memory.

Tensors of a shard are called "role.stride".

Shapes: n ≤ SHARD samples of a shard, C×h×w a feature map.
"""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from possam.encoders.base import FeatureMaps
from possam.utils.files import write_atomically

__all__ = ["SHARD", "Encode", "FeatureCache", "missing_shards", "write_shard"]

logger = logging.getLogger(__name__)

SHARD = 64
"""Samples in a shard: 320 MB of them at 1024² with the largest encoders."""
Encode = Callable[[list[Tensor]], Mapping[str, FeatureMaps]]
"""Images (3×H×W RGB in [0, 255]) to the feature maps of frozen encoders, {role: {stride: B×C×h×w}}."""


class _Place(NamedTuple):
    path: Path
    row: int
    checksums: dict[str, int]


class FeatureCache:
    """Feature maps by sample key, read from a folder of shards.

    Only whole images of one size can be kept, plain or mirrored: the features of a random crop differ every time.
    """

    def __init__(self, *, folder: Path, samples: int) -> None:
        """
        Args:
            folder: of `write_shard`.
            samples: how many the set has.

        Raises:
            OSError: a shard is missing or damaged.
        """
        self._places: dict[str, _Place] = {}
        for index in range(shards(samples)):
            path = _path(folder, index)
            try:
                about = _read_header(path, index, samples)
            except (OSError, ValueError) as error:
                raise OSError(f"{path} cannot be used ({error}); is the folder shared by all machines?") from error
            for row, key in enumerate(about["keys"]):
                checksums = {name: values[row] for name, values in about["checksums"].items()}
                self._places[key] = _Place(path, row, checksums)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> dict[str, FeatureMaps] | None:
        """Maps of one sample, {role: {stride: C×h×w float16}}, or None where they were never computed.

        Raises:
            OSError: the sample's shard has gone, or what is read is not what was written.
        """
        place = self._places.get(key)
        if place is None:
            return None
        try:
            with safe_open(place.path, framework="pt") as file:
                maps = {name: file.get_slice(name)[place.row] for name in place.checksums}
        except (OSError, SafetensorError) as error:
            raise OSError(f"The feature shard {place.path} cannot be read ({error}). {_FIX}") from error
        for name, checksum in place.checksums.items():
            if _checksum(maps[name]) != checksum:
                raise OSError(f"The feature shard {place.path} is damaged: the {name} features of {key}. {_FIX}")
        found: dict[str, FeatureMaps] = {}
        for name, values in maps.items():
            role, _, stride = name.rpartition(".")
            found.setdefault(role, {})[int(stride)] = values
        return found


_FIX = "Remove it and start again with --resume: no other shard is computed again."


def shards(samples: int) -> int:
    """How many shards that many samples have."""
    return -(-samples // SHARD)


def missing_shards(folder: Path, samples: int) -> list[int]:
    """Numbers of the shards of a set that are not there, or, with a warning, are damaged."""
    missing = []
    for index in range(shards(samples)):
        path = _path(folder, index)
        try:
            _read_header(path, index, samples)
        except FileNotFoundError:
            missing.append(index)
        except (OSError, ValueError) as error:
            logger.warning("The feature shard %s is damaged (%s); it is computed again.", path, error)
            missing.append(index)
    return missing


def write_shard(
    folder: Path, index: int, samples: Iterable[list[tuple[str, Tensor]]], encode: Encode, *, missing: int = 1
) -> None:
    """Encode the samples of a shard and write it, all or nothing.

    Args:
        samples: batches of (key, 3×H×W RGB image in [0, 255]).
        missing: shards that are still to be written, this one among them, for which there must be space.

    Raises:
        ValueError: features that half precision cannot hold.
        OSError: the disk is full, or will be, or cannot be written.
    """
    keys: list[str] = []
    parts: dict[str, list[Tensor]] = {}
    for batch in samples:
        keys += [key for key, _ in batch]
        for role, maps in encode([image for _, image in batch]).items():
            for stride, values in maps.items():
                parts.setdefault(f"{role}.{stride}", []).append(values.to("cpu", torch.float16).contiguous())
    features = {name: torch.cat(batches) for name, batches in parts.items()}
    for name, values in features.items():
        if not torch.isfinite(values).all():
            raise ValueError(f"The {name} features do not fit in half precision; set INPUT.CACHE_FEATURES False.")
    checksums = {name: [_checksum(one) for one in values] for name, values in features.items()}
    content = save(features, metadata={"samples": json.dumps({"keys": keys, "checksums": checksums})})
    path = _path(folder, index)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(folder).free, missing * len(content)
        if free < needed:
            raise OSError(f"{needed / 1e9:,.1f} GB are needed, but {free / 1e9:,.1f} GB are free")
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise OSError(
            f"cannot write the frozen features to {path}: {error}. Shards that are whole are kept: make space and "
            "start again, set INPUT.FEATURE_CACHE_DIR to another disk, or set INPUT.CACHE_FEATURES False."
        ) from error


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.safetensors"


def _read_header(path: Path, index: int, samples: int) -> dict[str, Any]:
    """Keys and checksums of a shard. Raises FileNotFoundError, OSError or ValueError where it is not whole."""
    try:
        with safe_open(path, framework="pt") as file:  # compares the file's size with its header
            about = json.loads((file.metadata() or {}).get("samples", "null"))
            names = set(file.keys())
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    expected = min(SHARD, samples - index * SHARD)
    if not isinstance(about, dict) or len(about["keys"]) != expected or set(about["checksums"]) != names:
        raise ValueError(f"its header does not tell of {expected} samples")
    return about


def _checksum(maps: Tensor) -> int:
    return zlib.crc32(maps.contiguous().view(torch.uint8).numpy().data)
