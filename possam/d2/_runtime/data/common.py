"""Datasets made from lists, functions, samplers and other datasets."""

import contextlib
import copy
import itertools
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from ..utils.logger import runtime_logger
from ..utils.serialize import PicklableWrapper

logger = runtime_logger(__name__)


class _SerializedList:
    """A list kept as pickled bytes in one tensor, so that forked workers share its memory."""

    def __init__(self, lst: list[Any]):
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


_default_serialize: Callable[[list[Any]], Any] = _SerializedList


@contextlib.contextmanager
def set_default_dataset_from_list_serialize_method(new: Callable[[list[Any]], Any]) -> Iterator[None]:
    """Inside the block, `DatasetFromList(serialize=True)` stores its list by ``new``."""
    global _default_serialize
    before, _default_serialize = _default_serialize, new
    try:
        yield
    finally:
        _default_serialize = before


class DatasetFromList(Dataset):
    """A list as a map-style dataset."""

    def __init__(self, lst: list[Any], copy: bool = True, serialize: bool | Callable[[list[Any]], Any] = True):
        """
        Args:
            lst: the items.
            copy: hand out deep copies, so that a change to an item stays without effect here.
            serialize: store the items as bytes in shared memory, or in what this function makes of the list; either
                way items come out fresh and are not copied again.
        """
        if not (isinstance(serialize, bool) or callable(serialize)):
            raise TypeError(f"serialize is a bool or a function of a list, but {type(serialize).__name__} came")
        self._copy = copy
        self._serialize = serialize is not False
        if serialize is True:
            serialize = _default_serialize
        self._lst = serialize(lst) if callable(serialize) else lst

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: int) -> Any:
        item = self._lst[idx]
        return copy.deepcopy(item) if self._copy and not self._serialize else item


class _MapIterableDataset(IterableDataset):
    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]):
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Any]:
        for item in self._dataset:
            mapped = self._map_func(item)
            if mapped is not None:
                yield mapped


class MapDataset(Dataset):
    """A function applied to every item of a dataset.

    Where the function returns None, an iterable dataset goes on to the next item and a map-style one gives another,
    randomly chosen item that has not failed yet. Made from an iterable dataset, the object is one itself.
    """

    def __new__(cls, dataset: Any, map_func: Callable[[Any], Any]) -> Any:
        if isinstance(dataset, IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]):
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)
        self._rng = random.Random(42)
        self._usable = set(range(len(dataset)))

    def __getnewargs__(self) -> tuple[Any, Any]:
        return self._dataset, self._map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> Any:
        current = int(idx)
        for attempt in itertools.count(1):
            item = self._map_func(self._dataset[current])
            if item is not None:
                self._usable.add(current)
                return item
            if attempt >= 3:
                logger.warning(f"The map function gave nothing for item {idx}, nor for {attempt - 1} others")
            self._usable.discard(current)
            if not self._usable:
                raise RuntimeError("the map function returned None for every item of the dataset")
            current = self._rng.choice(sorted(self._usable))


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

    def __init__(self, dataset: Dataset, sampler: Sampler, shard_sampler: bool = True, shard_chunk_size: int = 1):
        """
        Args:
            dataset: map-style.
            sampler: gives indices; the same ones in every worker.
            shard_sampler: let the workers share the indices out; False where the sampler does so itself.
            shard_chunk_size: how many consecutive indices a worker takes: with the batch size, batches come out in
                the sampler's order.
        """
        assert not isinstance(dataset, IterableDataset), dataset
        assert isinstance(sampler, Sampler), sampler
        self.dataset, self.sampler = dataset, sampler
        self.shard_sampler, self.shard_chunk_size = shard_sampler, shard_chunk_size

    def __iter__(self) -> Iterator[Any]:
        indices = _shard(self.sampler, self.shard_chunk_size) if self.shard_sampler else self.sampler
        for index in indices:
            yield self.dataset[index]

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


class AspectRatioGroupedDataset(IterableDataset):
    """Batches of which every image is wide, or none is.

    Items are dicts with "width" and "height". Incomplete batches wait for more; at the end they are dropped.
    """

    def __init__(self, dataset: Iterable[dict[str, Any]], batch_size: int):
        self.dataset = dataset
        self.batch_size = batch_size
        self._buckets: list[list[dict[str, Any]]] = [[], []]

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for item in self.dataset:
            group = int(item["width"] <= item["height"])
            self._buckets[group].append(item)
            if len(self._buckets[group]) == self.batch_size:
                # Emptied before it is handed out: the consumer may never come back.
                full, self._buckets[group] = self._buckets[group], []
                yield full
