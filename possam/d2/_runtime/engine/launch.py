"""Starting the processes of a distributed run."""

import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ..utils import comm
from ..utils.logger import runtime_logger

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)

logger = runtime_logger(__name__)


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def launch(
    main_func: Callable[..., Any], num_gpus_per_machine: int, num_machines: int = 1, machine_rank: int = 0,
    dist_url: str | None = None, args: tuple[Any, ...] = (), timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Run a function in every process of a run: here where there is one, else in new processes that form a group.

    Args:
        main_func: a function that can be pickled.
        num_gpus_per_machine: processes on each machine; without GPUs, processes all the same, joined by gloo.
        num_machines: call this once on each.
        machine_rank: number of this machine.
        dist_url: where the processes meet, such as "tcp://127.0.0.1:8686"; "auto" on one machine.
        args: positional arguments of the function.
        timeout: of operations between processes.
    """
    world = num_machines * num_gpus_per_machine
    if world <= 1:
        main_func(*args)
        return
    if dist_url == "auto":
        assert num_machines == 1, "dist_url='auto' only knows about this machine"
        dist_url = f"tcp://127.0.0.1:{_find_free_port()}"
    mp.start_processes(
        _distributed_worker, args=(main_func, world, num_gpus_per_machine, machine_rank, dist_url, args, timeout),
        nprocs=num_gpus_per_machine, daemon=False,
    )


def _distributed_worker(
    local_rank: int, main_func: Callable[..., Any], world_size: int, num_gpus_per_machine: int, machine_rank: int,
    dist_url: str | None, args: tuple[Any, ...], timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        have = torch.cuda.device_count()
        assert num_gpus_per_machine <= have, f"{num_gpus_per_machine} GPUs are asked for, but there are {have}"
        torch.cuda.set_device(local_rank)  # before any of them is touched, or all would start on the first
    try:
        dist.init_process_group(
            backend="nccl" if on_gpu else "gloo", init_method=dist_url, world_size=world_size,
            rank=machine_rank * num_gpus_per_machine + local_rank, timeout=timeout,
        )
    except Exception:
        logger.error(f"The processes could not meet at {dist_url}")
        raise
    comm.create_local_process_group(num_gpus_per_machine)
    comm.synchronize()
    main_func(*args)
