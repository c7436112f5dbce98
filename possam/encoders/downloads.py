"""Fetching official weights, with progress, resume and checksum, and checking a file that is there already."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from possam.encoders.weight_files import WEIGHTS, WeightFile, compare, find_weights, known_file
from possam.utils.files import file_sha256, write_atomically
from possam.utils.output import guarded_output

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["WEIGHTS", "NoConnection", "WeightFile", "download", "verify"]

_ATTEMPTS = 5  # without a byte of progress between them
_PAUSE = 2.0  # seconds before a further attempt
_COME_BACK = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)
_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 20


class NoConnection(ConnectionError, ValueError):
    """A file could not be fetched. A ValueError too, as every error whose message tells the user what to do."""


@guarded_output()
def download(name: str, folder: str | Path) -> Path:
    """Fetch official weights into a folder, or leave them alone if they are there and right.

    A transfer that was cut, now or in an earlier run, goes on where it stopped. The file gets its final name only
    once its checksum is right.

    Args:
        name: key of `WEIGHTS`.
        folder: made if missing.

    Returns:
        path of the file; give it as MODEL.SAM.WEIGHTS, MODEL.CLIP.WEIGHTS or MODEL.BACKBONE.WEIGHTS.

    Raises:
        ValueError: unknown name, a wrong checksum (what came is removed), or another file under the final name.
        NoConnection: no connection or refused; says where the file is and where to put it by hand.
    """
    weights = find_weights(name)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return _from_url(weights, folder) if weights.url else _from_hub(weights, folder)


def verify(path: str | Path) -> str:
    """Check a file of weights against the checksum that is known of it.

    Returns:
        a sentence that says what the file is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not what its name says, or nothing is known of it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; `possam weights download NAME` fetches one.")
    expected = known_file(path)
    if expected is not None and expected.sha256 is None:
        expected = replace(expected, sha256=_recorded_sha256(path) or _remote_sha256(expected, path))
    if expected is None:
        sha256 = file_sha256(path)
        expected = next((file for file in WEIGHTS.values() if file.sha256 == sha256), None)
        if expected is None:
            raise ValueError(
                f"nothing is known of {path} (sha256 {sha256}); official files are called "
                f"{', '.join(file.filename for file in WEIGHTS.values())}."
            )
        return f"{path} is {expected.name} under another name, and whole (sha256 {sha256})."
    if wrong := compare(path, expected):
        raise ValueError(
            f"{path} is not right: {wrong}. Remove it and fetch it again with `possam weights download "
            f"{expected.name}`."
        )
    return f"{path} is {expected.name}, and whole (sha256 {expected.sha256})."


# Files with an address and a checksum of their own


def _from_url(weights: WeightFile, folder: Path) -> Path:
    target = folder / weights.filename
    part = target.with_name(target.name + ".part")
    if target.is_file():
        wrong = compare(target, weights)
        if not wrong:
            return target
        if weights.size is None or target.stat().st_size >= weights.size:
            raise ValueError(f"{target} is another file: {wrong}. Move it away and try again.")
        # Half a file under the final name, from a tool that writes in place: go on from there.
        if not part.exists() or part.stat().st_size < target.stat().st_size:
            os.replace(target, part)
    with _progress(weights) as (bar, task):
        _fetch(weights, part, target, bar, task)
    if wrong := compare(part, weights):
        part.unlink()
        raise ValueError(
            f"what came from {weights.url} is not right: {wrong}. It was removed; try again, and if it comes wrong "
            f"again, something between here and there changes it: fetch it elsewhere and copy it to {target}."
        )
    os.replace(part, target)
    return target


def _fetch(weights: WeightFile, part: Path, target: Path, bar: Progress, task: TaskID) -> None:
    """Fill `part` to its end, over as many connections as it takes."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        reason: Exception | str
        try:
            if _transfer(weights, part, bar, task):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in _COME_BACK:
                raise NoConnection(_by_hand(weights, target, f"HTTP {error.code} {error.reason}")) from error
            reason = error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
        failures = 0 if part.exists() and part.stat().st_size > before else failures + 1
        if failures >= _ATTEMPTS:
            raise NoConnection(_by_hand(weights, target, reason))
        time.sleep(_PAUSE)


def _transfer(weights: WeightFile, part: Path, bar: Progress, task: TaskID) -> bool:
    """One connection: append to `part` what it lacks. False if the connection was cut before the end."""
    have = part.stat().st_size if part.exists() else 0
    if weights.size is not None and have >= weights.size:
        return True  # whole, or too long, which the checksum will tell
    request = urllib.request.Request(weights.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if resumed else 0  # a server that knows no ranges sends the whole again
        length = answer.headers.get("Content-Length")
        total = weights.size if length is None else have + int(length)
        bar.update(task, total=total, completed=have)
        with open(part, "ab" if resumed else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                bar.update(task, completed=have)
    return total is None or have >= total


@contextlib.contextmanager
def _progress(weights: WeightFile) -> Iterator[tuple[Progress, TaskID]]:
    from rich import progress  # here: importing the package stays fast

    sizes = (progress.DownloadColumn(), progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    with progress.Progress(progress.TextColumn("{task.description}"), progress.BarColumn(), *sizes) as bar:
        yield bar, bar.add_task(weights.filename, total=weights.size)


def _by_hand(weights: WeightFile, target: Path, reason: object) -> str:
    reason = (str(reason).splitlines() or [type(reason).__name__])[0]
    what = "that address" if weights.url else f"{weights.repo_files[0]} of that repository"
    return (
        f"cannot fetch {weights.name} from {weights.source} ({reason}). On a machine with a connection, run `possam "
        f"weights download {weights.name}` or fetch {what}; put the file at {target}, and check it with `possam "
        f"weights verify {target}`."
    )


# Files of Hugging Face repositories, whose server knows the checksum


class _HubFile(NamedTuple):
    filename: str
    revision: str
    sha256: str


def _from_hub(weights: WeightFile, folder: Path, endpoint: str | None = None) -> Path:
    from huggingface_hub import hf_hub_download

    for there in (folder / weights.filename, (folder / weights.filename).with_suffix(".bin")):
        if there.is_file() and _recorded_sha256(there) == file_sha256(there):
            return there
    remote = _hub_file(weights, endpoint, folder / weights.filename)
    target = (folder / weights.filename).with_suffix(Path(remote.filename).suffix)
    if target.is_file() and file_sha256(target) == remote.sha256:
        _record_sha256(target, remote.sha256)
        return target
    staging = folder / f".{weights.filename}.part"
    try:
        fetched = Path(
            hf_hub_download(
                weights.repo, remote.filename, revision=remote.revision, local_dir=staging, endpoint=endpoint
            )
        )
    except Exception as error:  # its kinds differ between versions of huggingface_hub and of what that stands on
        raise NoConnection(_by_hand(weights, target, error)) from error
    if wrong := compare(fetched, replace(weights, sha256=remote.sha256)):
        shutil.rmtree(staging)
        raise ValueError(f"what came from {weights.source} is not right: {wrong}. It was removed; try again.")
    _record_sha256(target, remote.sha256)
    os.replace(fetched, target)
    shutil.rmtree(staging)
    return target


def _hub_file(weights: WeightFile, endpoint: str | None = None, target: Path | None = None) -> _HubFile:
    """The file of a repository that open_clip or timm would take, and its checksum as the server has it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    for filename in weights.repo_files:
        try:
            found = get_hf_file_metadata(hf_hub_url(weights.repo, filename, endpoint=endpoint), endpoint=endpoint)
        except EntryNotFoundError:
            continue
        except Exception as error:  # as above
            raise NoConnection(_by_hand(weights, target or Path(weights.filename), error)) from error
        if found.etag is None or len(found.etag) != 64 or found.commit_hash is None:
            raise ValueError(f"{weights.source} does not tell the sha256 of {filename}, but {found.etag!r}.")
        return _HubFile(filename, found.commit_hash, found.etag)
    raise ValueError(f"{weights.source} has none of {', '.join(weights.repo_files)}; the repository has changed.")


def _remote_sha256(weights: WeightFile, path: Path) -> str:
    try:
        return _hub_file(weights).sha256
    except NoConnection as error:
        raise NoConnection(
            f"cannot check {path}: {weights.source}, which knows its checksum, cannot be reached, and {path.name}"
            ".sha256, which `possam weights download` writes beside it, is not there. Check it where it was "
            "downloaded, or copy that file along."
        ) from error


def _recorded_sha256(path: Path) -> str | None:
    """The checksum kept beside a file since its download, in the form `sha256sum --check` reads."""
    beside = path.with_name(path.name + ".sha256")
    return beside.read_text().split()[0] if beside.is_file() else None


def _record_sha256(path: Path, sha256: str) -> None:
    line = f"{sha256}  {path.name}\n".encode()
    write_atomically(path.with_name(path.name + ".sha256"), lambda file: file.write(line))
