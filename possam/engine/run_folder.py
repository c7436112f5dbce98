"""The output folder of a run: one run writes to it at a time, all machines share it, earlier runs are told apart."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from possam.d2.utils import comm
from possam.utils.files import read_json, write_atomically, write_json

__all__ = ["begin_run", "check_shared", "claim_checkpoint", "earlier_checkpoints", "exclusive", "starting_run"]

logger = logging.getLogger(__name__)

EARLIER = "earlier_checkpoints.json"
LOCK = "run.lock"
LEASE, ENDING = 100.0, 5.0
"""Seconds after which a file server has given up the locks of a machine that failed (NFS: 90 by default), and seconds
for a process of this machine that is about to end."""

_FORGET = "Delete it, and --resume takes the last checkpoint in the folder, of whatever run."
_UNNOTICED = "%s cannot be %s (%s), so another run that writes to its folder would go unnoticed."
_HELD = (errno.EACCES, errno.EAGAIN)  # POSIX allows either


# ------------------------------------------------------------------ one run at a time


@contextmanager
def exclusive(folder: str | Path, *, patience: float = 0.0, option: str = "OUTPUT_DIR") -> Iterator[None]:
    """Hold the lock of an output folder; all processes of a run must enter together.

    The main process holds a POSIX lock on `run.lock`, which the kernel releases when that process ends, however it
    ends, and which data loading processes do not inherit. Where files cannot be locked, a warning says so.

    Args:
        folder: is made if it is missing.
        patience: seconds to wait for another run that holds the lock, such as one that is just ending.
        option: what names the folder, for messages.

    Raises:
        ValueError: another run holds the lock; in all processes.
    """
    file, problem = _lock(Path(folder) / LOCK, patience, option) if comm.is_main_process() else (None, "")
    try:
        if problem := comm.all_gather(problem)[0]:
            raise ValueError(problem)
        yield
    finally:
        if file is not None:
            file.close()


def _lock(path: Path, patience: float, option: str) -> tuple[IO[str] | None, str]:
    """The locked file, or why there is none because another run holds the lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:  # a folder that cannot be written to is an error of `Checkpointer.check_folder`
        logger.warning(_UNNOTICED, path, "opened", error.strerror)
        return None, ""
    start, waiting = time.monotonic(), False
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno not in _HELD:
                file.close()
                logger.warning(_UNNOTICED, path, "locked", error.strerror)
                return None, ""
        holder = _holder(file)
        # The kernel of this machine releases the locks of processes that have ended at once.
        longest = min(patience, ENDING) if holder.get("host") == socket.gethostname() else patience
        who = "process {pid} on {host}, since {since}".format(**{"pid": "?", "host": "?", "since": "?", **holder})
        if time.monotonic() - start >= longest:
            file.close()
            return None, (
                f"Another run ({who}) is writing to {option} {path.parent}. Wait until it has ended, or set "
                f"{option} to another folder."
            )
        if not waiting:
            waiting = True
            logger.warning("Another run (%s) is writing to %s; waiting up to %.0f s for its end.", who, path.parent,
                           longest)  # fmt: skip
        time.sleep(0.2)
    with suppress(OSError):  # the lock holds without its description, too
        file.truncate(0)
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
        file.flush()
    return file, ""


def _holder(file: IO[str]) -> dict[str, Any]:
    """The process that holds the lock, by the file, which may not be written yet."""
    try:
        file.seek(0)
        entry = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return entry if isinstance(entry, dict) else {}


# ------------------------------------------------------------------ all machines share it


def check_shared(folder: str | Path, *, option: str = "OUTPUT_DIR") -> None:
    """Check that all processes see the folder that the main process writes to; all processes must ask.

    Args:
        option: what names the folder, for messages.

    Raises:
        ValueError: one does not; in all processes.
        OSError: the main process cannot write to the folder; in all processes.
    """
    if comm.get_world_size() == 1:
        return
    name, problem = f".shared-{uuid.uuid4().hex}", ""  # a new name: file systems remember what they did not find
    if comm.is_main_process():
        try:
            write_atomically(Path(folder) / name, lambda file: file.write(b"seen by all processes?"))
        except OSError as error:
            problem = f"{folder} cannot be written to ({error.strerror}); set {option} to a folder that can be."
    name, problem = comm.all_gather((name, problem))[0]
    if problem:
        raise OSError(problem)
    place = f"process {comm.get_rank()} on {socket.gethostname()} ({Path(folder).absolute()})"
    seen = comm.all_gather((Path(folder, name).is_file(), place))
    if comm.is_main_process():
        Path(folder, name).unlink(missing_ok=True)
    others = [place for found, place in seen if not found]
    if others:
        raise ValueError(
            f"{option} {folder} is not shared: {others[0]} does not see what {seen[0][1]} writes there. Set "
            f"{option} to the absolute path of a folder that all machines share."
        )


# ------------------------------------------------------------------ whose checkpoints it has


def earlier_checkpoints(folder: str | Path) -> set[str]:
    """Names of the checkpoints that were in a folder when its present run was begun, and that are not replaced since.

    Raises:
        ValueError: the file that lists them is damaged.
    """
    path = Path(folder) / EARLIER
    if not path.is_file():
        return set()
    try:
        names = read_json(path).get("checkpoints")
    except ValueError as error:
        raise ValueError(f"{error} {_FORGET}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} has no list of names as 'checkpoints'. {_FORGET}")
    return set(names)


def begin_run(folder: str | Path) -> None:
    """List the checkpoints that are in the folder now as those of earlier runs."""
    _list_earlier(folder, {path.name for path in Path(folder).glob("*.pth")})


def claim_checkpoint(folder: str | Path, name: str) -> None:
    """Record that a checkpoint was saved by the present run, perhaps in place of an earlier one of its name."""
    names = earlier_checkpoints(folder)
    if name in names:
        _list_earlier(folder, names - {name})


def _list_earlier(folder: str | Path, names: set[str]) -> None:
    path = Path(folder) / EARLIER
    if names:
        write_json(path, {"checkpoints": sorted(names)})
    else:
        path.unlink(missing_ok=True)


@contextmanager
def starting_run(folder: str | Path) -> Iterator[None]:
    """Start a new run inside, as `begin_run` does; to be entered by all processes.

    One that is killed or preempted inside has no checkpoint yet, and with --resume starts at iteration 0. After an
    error or Ctrl-C the checkpoints are again those of the run before.
    """
    if not comm.is_main_process():
        yield
        return
    path = Path(folder) / EARLIER
    before = path.read_bytes() if path.is_file() else None
    begin_run(folder)
    try:
        yield
    except (Exception, KeyboardInterrupt):
        if before is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, lambda file: file.write(before))
        raise
