"""Frozen features of a training set, computed once: half precision in memory, and in one file on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from possam.files import write_atomically

logger = logging.getLogger(__name__)

Encode = Callable[[list[Tensor]], dict[str, Tensor]]
"""Images (3×H×W RGB in [0, 255]) to named feature maps, each B×C×h×w."""


class FeatureCache:
    """Feature maps by sample key.

    Only whole images of one size can be kept, plain or mirrored: the features of a random crop differ every time.
    """

    def __init__(self, *, keys: list[str], features: dict[str, Tensor]) -> None:
        """
        Args:
            keys: N sample keys.
            features: named maps, each N×C×h×w float16.
        """
        self.features = features
        self._rows = {key: row for row, key in enumerate(keys)}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Maps of one sample, each C×h×w float16, or None where they were never computed."""
        row = self._rows.get(key)
        return None if row is None else {name: maps[row] for name, maps in self.features.items()}

    @classmethod
    def compute(
        cls, samples: Iterable[tuple[str, Tensor]], encode: Encode, *, count: int, batch_size: int
    ) -> FeatureCache:
        """Encode `count` samples of (key, 3×H×W RGB image in [0, 255]), `batch_size` at a time."""
        keys: list[str] = []
        features: dict[str, Tensor] = {}
        for batch in _batches(samples, batch_size):
            start = len(keys)
            keys.extend(key for key, _ in batch)
            for name, maps in encode([image for _, image in batch]).items():
                if name not in features:
                    features[name] = torch.empty(count, *maps.shape[1:], dtype=torch.float16)
                features[name][start : start + len(batch)] = maps.to("cpu", torch.float16)
        for name, maps in features.items():
            if not torch.isfinite(maps).all():
                raise ValueError(f"The {name} features do not fit in half precision; set INPUT.CACHE_FEATURES False.")
        return cls(keys=keys, features=features)

    def save(self, path: Path) -> None:
        """Write to `path` at once or not at all."""
        content = save(self.features, metadata={"keys": json.dumps(list(self._rows))})
        write_atomically(path, lambda file: file.write(content))

    @classmethod
    def load(cls, path: Path) -> FeatureCache | None:
        """The cache in a file; None, with a warning if the file is damaged, when there is none to use."""
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                keys = json.loads(file.metadata()["keys"])
                features = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            logger.warning("The feature cache %s is damaged (%s); its features are computed again.", path, error)
            return None
        return cls(keys=keys, features=features)


def _batches(samples: Iterable[tuple[str, Tensor]], size: int) -> Iterator[list[tuple[str, Tensor]]]:
    batch: list[tuple[str, Tensor]] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
