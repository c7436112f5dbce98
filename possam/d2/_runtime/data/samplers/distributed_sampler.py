"""Samplers for several processes. They know processes (ranks), not the worker processes of a loader."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler

from ...utils import comm

__all__ = ["InferenceSampler", "RandomSubsetTrainingSampler", "RepeatFactorTrainingSampler", "TrainingSampler"]



def _agreed(seed: int | None) -> int:
    return int(comm.shared_random_seed() if seed is None else seed)


class _EndlessSampler(Sampler):
    """Takes every world-size-th index of an endless stream on which all processes agree by their common seed."""

    def _join(self, seed: int | None) -> None:
        self._seed = _agreed(seed)
        self._rank, self._world_size = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        yield from itertools.islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        while True:
            yield from self._epoch(generator).tolist()

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        raise NotImplementedError


class TrainingSampler(_EndlessSampler):
    """Every index once per epoch, epoch after epoch without end, in a new order each time."""

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None):
        """
        Args:
            size: length of the dataset.
            shuffle: False keeps the order.
            seed: the same on all processes; None lets them agree on a random one.

        Raises:
            TypeError, ValueError: ``size`` is not an int, or not positive.
        """
        if not isinstance(size, int):
            raise TypeError(f"TrainingSampler(size=) takes an int, but {type(size).__name__} came")
        if size <= 0:
            raise ValueError(f"TrainingSampler(size=) must be positive, but it is {size}")
        self._size = size
        self._shuffle = shuffle
        self._join(seed)

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        return torch.randperm(self._size, generator=generator) if self._shuffle else torch.arange(self._size)


class RandomSubsetTrainingSampler(TrainingSampler):
    """A `TrainingSampler` of a random share of the dataset, for curves of accuracy against data."""

    def __init__(
        self, size: int, subset_ratio: float, shuffle: bool = True, seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ):
        """``subset_ratio`` lies in (0, 1]; ``seed_subset`` chooses the share, ``seed_shuffle`` its order."""
        super().__init__(size=size, shuffle=shuffle, seed=seed_shuffle)
        assert 0.0 < subset_ratio <= 1.0, subset_ratio
        self._size_subset = int(size * subset_ratio)
        assert self._size_subset > 0, f"a share of {subset_ratio} of {size} items is empty"
        generator = torch.Generator()
        generator.manual_seed(_agreed(seed_subset))
        self._indexes_subset = torch.randperm(size, generator=generator)[: self._size_subset]

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        if not self._shuffle:
            return self._indexes_subset
        return self._indexes_subset[torch.randperm(self._size_subset, generator=generator)]


class RepeatFactorTrainingSampler(_EndlessSampler):
    """A training sampler in which an index comes, on average, its repeat factor times per epoch (LVIS, app. B.2)."""

    def __init__(self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None):
        """``repeat_factors`` is a float tensor with one entry per item; the rest is as in `TrainingSampler`."""
        self._shuffle = shuffle
        self._int_part = torch.trunc(repeat_factors)
        self._frac_part = repeat_factors - self._int_part
        self._join(seed)

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict[str, Any]], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Repeat images by their rarest category: max over categories c of max(1, √(threshold / f(c))).

        Args:
            dataset_dicts: items with "annotations", each with "category_id".
            repeat_thresh: categories in a smaller share f(c) of the images are repeated.
            sqrt: False takes the ratio itself.
        """
        present = [{annotation["category_id"] for annotation in item["annotations"]} for item in dataset_dicts]
        images = Counter(itertools.chain.from_iterable(present))
        factors = {}
        for category, count in sorted(images.items()):
            ratio = repeat_thresh / (count / len(dataset_dicts))
            factors[category] = max(1.0, math.sqrt(ratio) if sqrt else ratio)
        rows = [max((factors[category] for category in categories), default=1.0) for categories in present]
        return torch.tensor(rows, dtype=torch.float32)

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        # A fraction is a chance of one more copy, drawn anew every epoch.
        extra = torch.rand(len(self._frac_part), generator=generator) < self._frac_part
        copies = (self._int_part + extra).long()
        indices = torch.repeat_interleave(torch.arange(len(copies)), copies)
        return indices[torch.randperm(len(indices), generator=generator)] if self._shuffle else indices


class InferenceSampler(Sampler):
    """Every index exactly once over all processes, each taking one contiguous part; sizes differ by at most one."""

    def __init__(self, size: int):
        assert size > 0, f"there is nothing to sample from {size} items"
        self._size = size
        self._rank, self._world_size = comm.get_rank(), comm.get_world_size()
        self._local_indices = self._get_local_indices(size, self._world_size, self._rank)

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        share, left = divmod(total_size, world_size)
        # The first `left` ranks take one more.
        begin = rank * share + min(rank, left)
        return range(begin, begin + share + (rank < left))

    def __iter__(self) -> Iterator[int]:
        yield from self._local_indices

    def __len__(self) -> int:
        return len(self._local_indices)
