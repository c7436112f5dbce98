"""Questions about, and small exchanges between, the processes of a distributed run.

Every function also answers in a process that never joined a group: as rank 0 of 1.
"""

import functools
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

_LOCAL_PROCESS_GROUP: Any = None


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes in the run."""
    return dist.get_world_size() if _grouped() else 1


def get_rank() -> int:
    """Number of this process in the run."""
    return dist.get_rank() if _grouped() else 0


@functools.lru_cache
def create_local_process_group(num_workers_per_machine: int) -> None:
    """Split the run into one group per machine; every process calls it once, after the run's group exists."""
    global _LOCAL_PROCESS_GROUP
    world = get_world_size()
    assert _LOCAL_PROCESS_GROUP is None, "the local process group exists already"
    assert world % num_workers_per_machine == 0, (world, num_workers_per_machine)
    for first in range(0, world, num_workers_per_machine):
        members = range(first, first + num_workers_per_machine)
        group = dist.new_group(list(members))  # collective: every rank creates every group
        if get_rank() in members:
            _LOCAL_PROCESS_GROUP = group


def get_local_process_group() -> Any:
    """The group of the processes on this machine."""
    missing = "there is no local process group: use launch(), or call comm.create_local_process_group()"
    assert _LOCAL_PROCESS_GROUP is not None, missing
    return _LOCAL_PROCESS_GROUP


def get_local_rank() -> int:
    """Number of this process on its machine."""
    return dist.get_rank(group=get_local_process_group()) if _grouped() else 0


def is_main_process() -> bool:
    """Whether this is rank 0."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every process is here."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


@functools.lru_cache
def _cpu_group() -> Any:
    """A group over all ranks that can carry pickled objects without a GPU."""
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else dist.group.WORLD


def _object_group(group: Any) -> Any:
    """The group to exchange objects in, or None where there is nobody to exchange with."""
    if get_world_size() == 1:
        return None
    group = _cpu_group() if group is None else group
    return None if dist.get_world_size(group) == 1 else group


def all_gather(data: Any, group: Any = None) -> list[Any]:
    """Everybody's picklable ``data``, by rank, on every process."""
    group = _object_group(group)
    if group is None:
        return [data]
    everything: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everything, data, group=group)
    return everything


def gather(data: Any, dst: int = 0, group: Any = None) -> list[Any]:
    """Everybody's picklable ``data``, by rank, on process ``dst``; an empty list on the others."""
    group = _object_group(group)
    if group is None:
        return [data]
    if dist.get_rank(group=group) != dst:
        dist.gather_object(data, None, dst=dst, group=group)
        return []
    everything: list[Any] = [None] * dist.get_world_size(group)
    dist.gather_object(data, everything, dst=dst, group=group)
    return everything


def shared_random_seed() -> int:
    """A random number below 2**31 on which all processes agree."""
    return all_gather(np.random.randint(2**31))[0]
