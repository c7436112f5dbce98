"""The output folder: one run at a time, shared by all processes, and what is of an earlier run."""

import errno
import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from possam.d2.utils import comm
from possam.engine import run_folder
from possam.engine.preemption import Preempted
from possam.engine.run_folder import (
    begin_run,
    check_shared,
    claim_checkpoint,
    earlier_checkpoints,
    exclusive,
    starting_run,
)


@pytest.fixture
def held(tmp_path):
    """A folder that another process holds until it is killed: the folder and the process's id."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with exclusive(tmp_path / "run"):
                os.write(told, b"1")
                time.sleep(60)
        finally:
            os._exit(0)
    os.read(ready, 1)
    yield tmp_path / "run", child
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except ProcessLookupError:
        pass  # the test has done so


def test_a_second_run_is_refused_and_told_of_the_first(held):
    folder, process = held
    before = (folder / "run.lock").read_text()
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"Another run \(process {process} on .*, since 20.*set OUTPUT_DIR to"):
            with exclusive(folder):
                pytest.fail("both run")
    assert (folder / "run.lock").read_text() == before
    with exclusive(folder.parent / "other"):
        pass


def test_a_run_that_was_killed_holds_nothing(held):
    folder, process = held
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    for _ in range(2):  # nor does one that has ended
        with exclusive(folder):
            assert f'"pid": {os.getpid()}' in (folder / "run.lock").read_text()


def test_a_run_that_goes_on_waits_for_the_end_of_the_one_before(held, caplog, monkeypatch):
    folder, process = held
    monkeypatch.setattr(run_folder, "ENDING", 0.05)
    with pytest.raises(ValueError, match="Another run"), exclusive(folder, patience=10):  # it is alive on this machine
        pytest.fail("both run")
    monkeypatch.setattr(run_folder, "ENDING", 10.0)
    monkeypatch.setattr(time, "sleep", lambda _: os.kill(process, signal.SIGKILL))
    with exclusive(folder, patience=10):
        assert f"process {process} on" in caplog.text and "waiting up to 10 s" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_warning_says_so(tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with exclusive(tmp_path):
        assert "run.lock cannot be locked" in caplog.text
    (tmp_path / "file").write_text("")
    with exclusive(tmp_path / "file"):  # is an error of what writes there next
        assert "run.lock cannot be opened" in caplog.text


def _refused(folder):
    with pytest.raises(ValueError, match="Another run"), exclusive(folder):
        pytest.fail("both run")
    Path(folder, f"{comm.get_rank()}.txt").touch()


def test_all_processes_of_a_second_run_end(held, two_processes):
    two_processes(_refused, held[0])
    assert (held[0] / "0.txt").exists() and (held[0] / "1.txt").exists()


def _shared(root):
    os.chdir(Path(root, str(comm.get_rank())))
    check_shared(root)
    with pytest.raises(ValueError, match="OUTPUT_DIR out is not shared: process 1 on .*1/out.* process 0 on .*0/out"):
        check_shared("out")
    Path(root, f"{comm.get_rank()}.txt").touch()


def test_a_folder_that_is_not_shared_is_named_in_all_processes(two_processes, tmp_path):
    for rank in "01":
        (tmp_path / rank / "out").mkdir(parents=True)
    two_processes(_shared, str(tmp_path))
    assert (tmp_path / "0.txt").exists() and (tmp_path / "1.txt").exists()
    assert not list(tmp_path.rglob(".shared*"))
    check_shared(tmp_path / "none")  # one process shares it with itself


# ------------------------------------------------------------------ earlier runs


def test_checkpoints_of_an_earlier_run_are_listed_until_they_are_replaced(tmp_path):
    begin_run(tmp_path)
    assert earlier_checkpoints(tmp_path) == set() and not list(tmp_path.iterdir())
    for name in ("a.pth", "b.pth", "c.txt"):
        (tmp_path / name).touch()
    begin_run(tmp_path)
    assert earlier_checkpoints(tmp_path) == {"a.pth", "b.pth"}
    claim_checkpoint(tmp_path, "b.pth")
    claim_checkpoint(tmp_path, "new.pth")
    assert earlier_checkpoints(tmp_path) == {"a.pth"}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"checkpoints": "a.pth"}'])
def test_a_damaged_list_is_an_error_with_the_fix(tmp_path, content):
    (tmp_path / "earlier_checkpoints.json").write_text(content)
    with pytest.raises(ValueError, match="earlier_checkpoints.json.*Delete it, and --resume takes"):
        earlier_checkpoints(tmp_path)


@pytest.mark.parametrize(
    ("end", "listed"),
    [(ValueError(), {"a.pth"}), (KeyboardInterrupt(), {"a.pth"}), (Preempted(), {"a.pth", "b.pth"})],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_start_that_fails_leaves_the_folder_to_the_run_before(tmp_path, end, listed, before):
    (tmp_path / "a.pth").touch()
    if before:
        begin_run(tmp_path)
    (tmp_path / "b.pth").touch()
    with pytest.raises(type(end)), starting_run(tmp_path):
        assert earlier_checkpoints(tmp_path) == {"a.pth", "b.pth"}
        raise end
    assert earlier_checkpoints(tmp_path) == (listed if before or isinstance(end, Preempted) else set())
