"""Samplers for several processes. They know processes (ranks), not the worker processes of a loader."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from ...utils import comm

__all__ = ["InferenceSampler"]


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
