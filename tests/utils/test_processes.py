"""Processes that multiprocessing starts end with the one that started them, even if that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

START = """
import multiprocessing, os, sys, time
from pathlib import Path
from possam.utils.processes import end_with_parent

def work(folder, late):
    Path(folder, f"{os.getpid()}.pid").touch()
    while late and not Path(folder, "gone").exists():
        time.sleep(0.01)
    end_with_parent()
    Path(folder, f"{os.getpid()}.started").touch()
    time.sleep(60)

if __name__ == "__main__":
    method, folder, late = sys.argv[1:]
    for _ in range(2):
        multiprocessing.get_context(method).Process(target=work, args=(folder, late == "late")).start()
    time.sleep(60)
"""


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("late", ["late", ""])
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_no_process_outlives_a_killed_parent(tmp_path, method, late):
    """Also where the parent is gone before the process has come to watch it."""
    script = tmp_path / "start.py"
    script.write_text(START)
    parent = subprocess.Popen([sys.executable, str(script), method, str(tmp_path), late])
    try:
        assert wait_until(lambda: len([*tmp_path.glob("*.pid" if late else "*.started")]) == 2)
    finally:
        parent.kill()
        parent.wait()
        (tmp_path / "gone").touch()
    started = [int(path.stem) for path in tmp_path.glob("*.pid")]
    left = not wait_until(lambda: not any(map(running, started)))
    for pid in filter(running, started):
        os.kill(pid, signal.SIGKILL)
    assert not left
