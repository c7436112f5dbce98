"""Start a run in one process, in several of its own, or as one of the processes `torchrun` has started.

Processes that it starts end together: when one fails, when a signal asks the run to stop, and on Ctrl-C.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from possam.d2.utils import comm
from possam.engine.address import check_environment, check_url
from possam.engine.preemption import EXIT_CODE, Preempted, handling
from possam.utils.output import run_command

__all__ = ["run"]

Main = Callable[[argparse.Namespace], Any]

START_METHOD = "spawn"  # forked processes cannot use CUDA
CTRL_C = 130
_TIMEOUT = timedelta(minutes=30)  # of an exchange: one process may be evaluating or writing
_AFTER_FAILURE, _AFTER_SIGNAL = 2.0, 30.0  # seconds for the others, once one has failed or saved and stopped
_PR_SET_PDEATHSIG = 1


def run(main: Main, args: argparse.Namespace) -> Any:
    """Call `main(args)` in every process of the run; gloo joins them on the CPU, NCCL on CUDA devices.

    Under `torchrun` (RANK and WORLD_SIZE are set) the process joins the group described by the environment and
    `--num-gpus`, `--num-machines` and `--dist-url` are not read. Otherwise `--num-gpus` processes are started on each
    of `--num-machines` machines; signals that ask this process to stop are passed on to them, and none outlives it.

    Raises:
        Preempted: a signal asked the run to stop.
        ChildProcessError: a process was killed.
        ValueError: a number of `args` is out of its range, there are fewer GPUs than processes, or `--dist-url` or the
            environment does not say where the processes meet, or they cannot meet there (`possam.engine.address`).
        What `main` raised first in any process.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _join(main, args, "env://", *check_environment(os.environ))
    for option, count in (("--num-gpus", args.num_gpus), ("--num-machines", args.num_machines)):
        if count < 1:
            raise ValueError(f"{option} is {count}, but must be at least 1; on a CPU it counts processes.")
    if args.num_gpus * args.num_machines == 1:
        return main(args)
    if torch.cuda.is_available() and args.num_gpus > torch.cuda.device_count():
        raise ValueError(f"--num-gpus is {args.num_gpus}, but this machine has {torch.cuda.device_count()} GPUs.")
    url = args.dist_url
    if url == "auto":
        if args.num_machines > 1:
            raise ValueError("Several machines need to know where to meet: --dist-url tcp://HOST:PORT of the first.")
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    if not 0 <= args.machine_rank < args.num_machines:
        raise ValueError(f"--machine-rank is {args.machine_rank}, but must be from 0 to {args.num_machines - 1}.")
    check_url(url, listens=args.machine_rank == 0)
    return _start(main, args, url)


def _join(main: Main, args: argparse.Namespace, url: str, rank: int, world: int, local: int, local_world: int) -> Any:
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local)  # before any is touched, or all would start on the first
    try:
        store, _, _ = next(dist.rendezvous(url, rank, world, timeout=_TIMEOUT))
    except dist.DistError as error:
        raise OSError(f"The processes cannot meet at {url}: {str(error).splitlines()[0]}") from error
    store = _own_part(store, rank, world)
    dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=world, timeout=_TIMEOUT)
    comm.create_local_process_group(local_world)
    comm.synchronize()
    result = main(args)
    dist.destroy_process_group()  # not after an error: it would wait for the others
    return result


def _own_part(store: dist.Store, rank: int, world: int) -> dist.Store:
    """Agree on a prefix of the store that this start of the processes alone uses.

    torchrun starts all processes again when one has failed, but the store still has the addresses of those before
    (https://github.com/pytorch/pytorch/issues/135712). So every process writes a new identifier, rank 0 writes the
    prefix for each identifier that it reads, and the processes that are running acknowledge it.

    Raises:
        TimeoutError: not all came.
    """
    me = uuid.uuid4().hex
    store.set(f"id/{rank}", me)
    if rank:
        part = store.get(f"prefix/{me}").decode()
        store.set(f"{part}/joined/{rank}", "")
        return dist.PrefixStore(part, store)
    missing, end = list(range(1, world)), time.monotonic() + _TIMEOUT.total_seconds()
    while missing:
        for other in missing:
            store.set(f"prefix/{store.get(f'id/{other}').decode()}", me)
        missing = [other for other in missing if not store.check([f"{me}/joined/{other}"])]
        if time.monotonic() > end:
            raise TimeoutError(f"{len(missing)} of {world} processes have not come, among them rank {missing[0]}.")
        time.sleep(0.02)
    return dist.PrefixStore(me, store)


# ------------------------------------------------------------------ processes that this one starts


def _start(main: Main, args: argparse.Namespace, url: str) -> None:
    processes: list[SpawnProcess] = []
    told: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        _signal(processes, number)

    context: Any = multiprocessing.get_context(START_METHOD)
    with tempfile.TemporaryDirectory() as folder, handling(pass_on):
        try:
            for local in range(args.num_gpus):
                work = (_work, main, args, url, local, folder, os.getpid())
                process = context.Process(target=run_command, args=work)
                process.start()
                processes.append(process)
            for number in told:  # perhaps before the last was there
                _signal(processes, number)
            codes = _wait(processes)
        except KeyboardInterrupt:
            _signal(processes, signal.SIGINT)
            _wait_until(processes, _AFTER_FAILURE)
            raise
        finally:
            _kill(processes)
        codes = [0 if _done(folder, local).exists() else code for local, code in enumerate(codes)]
        _raise_cause(codes, _errors(folder), bool(told))


def _work(main: Main, args: argparse.Namespace, url: str, local: int, folder: str, parent: int) -> None:
    """Join the group and work, in a started process; write the error, if any, to the folder."""
    os.setpgid(0, 0)  # what this process starts ends with it, and Ctrl-C comes from the parent alone
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    # Python passes on the start method. With "spawn" the data loaders' processes would import everything for seconds
    # before they notice that this process has ended; those of a run in a single process start in milliseconds.
    multiprocessing.set_start_method(None, force=True)
    try:
        rank = args.machine_rank * args.num_gpus + local
        _join(main, args, url, rank, args.num_machines * args.num_gpus, local, args.num_gpus)
        _done(folder, local).touch()
    except KeyboardInterrupt:
        sys.exit(CTRL_C)
    except Exception as error:
        # What `add_note` does, which came with Python 3.11.
        vars(error)["__notes__"] = [f"In process {rank}:\n{traceback.format_exc()}"]
        try:
            Path(folder, str(rank)).write_bytes(_pickled(error))
        except OSError:  # the parent can then tell the exit code alone
            print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _done(folder: str, local: int) -> Path:
    """File that marks a process as done: PyTorch's threads sometimes abort a process while it exits."""
    return Path(folder, f"{local}.done")


def _pickled(error: Exception) -> bytes:
    try:
        data = pickle.dumps((time.monotonic(), error))
        pickle.loads(data)
        return data
    except Exception:  # whatever a foreign error's own pickling raises
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        vars(plain).update(__notes__=vars(error)["__notes__"])
        return pickle.dumps((time.monotonic(), plain))


def _errors(folder: str) -> list[Exception]:
    """Errors that the processes wrote, the earliest first: the others follow from it."""
    left = [pickle.loads(path.read_bytes()) for path in Path(folder).iterdir() if path.name.isdigit()]
    return [error for _, error in sorted(left, key=lambda item: item[0])]


def _wait(processes: Sequence[SpawnProcess]) -> list[int | None]:
    """Wait until all have ended, or one has failed and the others had time to write their errors; return exit codes."""
    while not any(process.exitcode for process in processes) and not _wait_until(processes, 0.1):
        pass
    if any(process.exitcode for process in processes):
        stopped = any(process.exitcode == EXIT_CODE for process in processes)
        _wait_until(processes, _AFTER_SIGNAL if stopped else _AFTER_FAILURE)
    return [process.exitcode for process in processes]


def _wait_until(processes: Sequence[SpawnProcess], seconds: float) -> bool:
    """Return whether all end within these seconds."""
    end = time.monotonic() + seconds
    while (running := any(process.exitcode is None for process in processes)) and time.monotonic() < end:
        time.sleep(0.02)
    return not running


def _signal(processes: Sequence[SpawnProcess], number: int) -> None:
    for process in processes:
        if process.exitcode is None and process.pid:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _kill(processes: Sequence[SpawnProcess]) -> None:
    """End what has not ended well, and the data loaders' processes with it."""
    for process in processes:
        if process.exitcode != 0 and process.pid:
            process.kill()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _raise_cause(codes: Sequence[int | None], errors: Sequence[Exception], told: bool) -> None:
    if not any(code != 0 for code in codes):
        return
    # One that is aborted may only be one whose partners have gone.
    killed = [rank for rank, code in enumerate(codes) if code and code < 0 and code != -signal.SIGABRT]
    if EXIT_CODE in codes or (told and killed):
        raise Preempted
    if CTRL_C in codes:
        raise KeyboardInterrupt
    if killed:
        raise ChildProcessError(_obituary(killed[0], len(codes), -(codes[killed[0]] or 0)))
    if errors:
        raise errors[0]
    rank = next(rank for rank, code in enumerate(codes) if code)
    raise ChildProcessError(f"Process {rank} of {len(codes)} ended with exit code {codes[rank]}.")


def _obituary(rank: int, count: int, number: int) -> str:
    names = {member.value: member.name for member in signal.Signals}
    advice = "Go on from the last checkpoint with --resume."
    if number == signal.SIGKILL:
        advice = (
            "The system does so when memory runs out (`dmesg` tells): lower SOLVER.IMS_PER_BATCH or "
            "DATALOADER.NUM_WORKERS, and go on from the last checkpoint with --resume."
        )
    return f"Process {rank} of {count} was killed by {names.get(number, number)}, so the run has ended. {advice}"
