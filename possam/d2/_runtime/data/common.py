"""Datasets made from lists, functions and samplers."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info


class DatasetFromList(Dataset):
    """A list as a map-style dataset: pickled bytes in one tensor, whose memory forked workers share."""

    def __init__(self, lst: list[Any], copy: bool = True):
        """``copy`` changes nothing: items come out fresh. Detectron2 copies only those that are not stored as bytes."""
        chunks = [np.frombuffer(pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL), np.uint8) for item in lst]
        ends = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self._bounds = torch.from_numpy(ends.astype(np.int64))
        self._bytes = torch.from_numpy(np.concatenate([np.empty(0, np.uint8), *chunks]))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, idx: int) -> Any:
        if not -len(self) <= idx < len(self):
            raise IndexError(idx)
        idx = int(idx) % len(self)
        begin, end = self._bounds[idx].item(), self._bounds[idx + 1].item()
        return pickle.loads(self._bytes[begin:end].numpy().data)


class MapDataset(Dataset):
    """A function applied to every item of a map-style dataset."""

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]):
        self._dataset, self._map_func = dataset, map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> Any:
        return self._map_func(self._dataset[idx])


def _shard(indices: Iterable[int], chunk_size: int) -> Iterator[int]:
    """What this worker process takes of a stream: chunks in turn, or all where there is no other worker."""
    worker = get_worker_info()
    if worker is None or worker.num_workers == 1:
        yield from indices
        return
    for position, index in enumerate(indices):
        if position // chunk_size % worker.num_workers == worker.id:
            yield index


class ToIterableDataset(IterableDataset):
    """A map-style dataset and a sampler as an iterable dataset, so that the sampler runs inside the workers."""

    def __init__(self, dataset: Dataset, sampler: Sampler, shard_chunk_size: int = 1):
        """
        Args:
            dataset: map-style.
            sampler: gives indices; the same ones in every worker, which share them out.
            shard_chunk_size: how many consecutive indices a worker takes: with the batch size, batches come out in
                the sampler's order.
        """
        self.dataset, self.sampler, self.shard_chunk_size = dataset, sampler, shard_chunk_size

    def __iter__(self) -> Iterator[Any]:
        for index in _shard(self.sampler, self.shard_chunk_size):
            yield self.dataset[index]

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]
