"""Processes that were started for a run end with it, whatever ends it, and say why in one sentence."""

import argparse
import faulthandler
import multiprocessing.util
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from possam.d2.utils import comm
from possam.engine import launch
from possam.engine.preemption import EXIT_CODE, SIGNALS, Preempted, preemptible

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="forked processes cannot use CUDA")


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts two processes that call a function of a folder, and checks that none is left, soon afterwards."""
    monkeypatch.setattr(launch, "START_METHOD", "fork")  # spares the imports
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

    def started(main):
        many = argparse.Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")
        before, begin = [signal.getsignal(number) for number in SIGNALS], time.monotonic()
        try:
            launch.run(main, argparse.Namespace(**vars(many), folder=str(tmp_path)))
        finally:
            assert time.monotonic() - begin < 20  # gloo would wait for 30 minutes
            assert [signal.getsignal(number) for number in SIGNALS] == before
            pids = [int(path.name[4:]) for path in tmp_path.glob("pid-*")]
            while any(map(alive, pids)) and time.monotonic() - begin < 20:
                time.sleep(0.02)  # the system takes a moment
            assert pids and not any(map(alive, pids))

    yield started
    signal.signal(signal.SIGINT, interrupt)


def alive(pid):
    """Whether a process runs; one that waits to be reaped by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ready(args, pid=None):
    Path(args.folder, f"pid-{pid or os.getpid()}").touch()


def soon(count, folder, action):
    """Act in this process once so many processes are ready."""

    def wait():
        end = time.monotonic() + 15
        while len(list(folder.glob("pid-*"))) < count and time.monotonic() < end:
            time.sleep(0.02)
        action()

    threading.Thread(target=wait, daemon=True).start()


def _waits_for_ever(args):
    ready(args)
    if comm.get_rank() == 1:
        with preemptible():
            time.sleep(1000)
    dist.barrier()


def _is_killed(args):
    if comm.get_rank() == 1:
        loader = os.fork()  # as a data loader's process
        if not loader:
            time.sleep(1000)
        ready(args, loader)
        ready(args)
        os.kill(os.getpid(), signal.SIGKILL)
    ready(args)
    dist.barrier()


def _fails(args):
    ready(args)
    if comm.get_rank() == 1:
        raise KeyError("the cause")
    dist.barrier()


def _lingers(args):
    """The first is slow to write, and to be waited for."""
    ready(args)
    if comm.get_rank() == 0:
        time.sleep(launch._AFTER_FAILURE / 10 + 1)
        Path(args.folder, "written").touch()
    raise Preempted


def _works(args):
    ready(args)
    assert comm.all_gather(comm.get_rank()) == [0, 1] and comm.get_local_rank() == comm.get_rank()


def test_all_is_well(start):
    start(_works)


def test_a_killed_process_ends_the_run_and_what_it_started(start):
    with pytest.raises(ChildProcessError, match=r"^Process 1 of 2 was killed by SIGKILL.*memory.*--resume\.$"):
        start(_is_killed)


def test_the_first_error_is_the_cause_and_tells_its_place(start):
    with pytest.raises(KeyError, match="the cause") as error:
        start(_fails)
    assert "In process 1:" in error.value.__notes__[0] and "in _fails" in error.value.__notes__[0]


@pytest.mark.parametrize("number", SIGNALS)
def test_what_tells_to_make_room_is_passed_on(start, tmp_path, number):
    soon(2, tmp_path, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as end:
        start(_waits_for_ever)
    assert end.value.code == EXIT_CODE


def _abort():
    faulthandler.disable()
    os.abort()


def _aborts_as_it_ends(args):
    if comm.get_rank() == 0:
        ready(args)
        multiprocessing.util.Finalize(None, _abort, exitpriority=0)  # run when the process has done its work


def test_a_process_that_is_aborted_after_its_work_has_done_it(start):
    start(_aborts_as_it_ends)


def test_who_still_writes_is_waited_for(start, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_AFTER_FAILURE", 0.1)
    with pytest.raises(Preempted):
        start(_lingers)
    assert (tmp_path / "written").exists()


@pytest.mark.parametrize("whom", ["parent", "worker"])
def test_ctrl_c_ends_all(start, tmp_path, whom):
    def press():
        pids = [int(path.name[4:]) for path in tmp_path.glob("pid-*")]
        os.kill(max(pids) if whom == "worker" else os.getpid(), signal.SIGINT)

    soon(2, tmp_path, press)
    with pytest.raises(KeyboardInterrupt):
        start(_waits_for_ever)


def test_an_error_that_cannot_be_sent_is_told_all_the_same():
    class Local(Exception):
        pass

    error = Local("odd")
    error.__notes__ = ["where"]
    sent = launch.pickle.loads(launch._pickled(error))[1]
    assert type(sent) is RuntimeError and str(sent) == "Local: odd" and sent.__notes__ == ["where"]


def test_several_machines_need_to_know_where_to_meet():
    many = argparse.Namespace(num_gpus=1, num_machines=2, machine_rank=0, dist_url="auto")
    with pytest.raises(ValueError, match="--dist-url tcp://HOST:PORT"):
        launch.run(print, many)


def test_processes_that_start_again_do_not_find_those_before():
    """A store of torchrun's, which outlives them."""
    store = dist.HashStore()
    for rank in range(3):
        store.set(f"id/{rank}", f"before-{rank}")
    parts = {}

    def come(rank):
        parts[rank] = launch._own_part(store, rank, 3)

    processes = [threading.Thread(target=come, args=(rank,), daemon=True) for rank in (0, 1, 2)]
    for process in processes:
        process.start()
        time.sleep(0.05)  # the first reads identifiers of an earlier start
    for process in processes:
        process.join(10)
    parts[2].set("address", "new")
    assert parts[0].get("address") == parts[1].get("address") == b"new"


def test_processes_that_do_not_come_are_told(monkeypatch):
    monkeypatch.setattr(launch, "_TIMEOUT", timedelta(seconds=0.1))
    store = dist.HashStore()
    store.set("id/1", "before")
    with pytest.raises(TimeoutError, match="1 of 2 processes have not come, among them rank 1"):
        launch._own_part(store, 0, 2)
