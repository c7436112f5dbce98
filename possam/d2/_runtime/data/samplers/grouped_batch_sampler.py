"""Batches within groups."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler, Sampler

__all__ = ["GroupedBatchSampler"]


class GroupedBatchSampler(BatchSampler):
    """Batches of indices of one group each, in about the order of the sampler they come from."""

    def __init__(self, sampler: Sampler, group_ids: Sequence[int], batch_size: int):
        """``group_ids`` gives the group of every index that ``sampler`` may produce."""
        if not isinstance(sampler, Sampler):
            raise ValueError(f"sampler must be a torch.utils.data.Sampler, but {type(sampler).__name__} came")
        self.sampler = sampler
        self.group_ids = np.asarray(group_ids)
        assert self.group_ids.ndim == 1, self.group_ids.shape
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[int, list[int]] = defaultdict(list)
        for index in self.sampler:
            group = int(self.group_ids[index])
            waiting[group].append(index)
            if len(waiting[group]) == self.batch_size:
                yield waiting.pop(group)

    def __len__(self) -> int:
        raise NotImplementedError("how many batches there are depends on how the groups fall")
