"""Check where the processes of a run are to meet, before any of them waits for the others."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["check_environment", "check_url"]


def check_url(url: str, *, listens: bool) -> None:
    """Check `--dist-url`.

    Args:
        url: tcp://HOST:PORT, or file:///PATH of a file that all processes can write to.
        listens: whether the processes meet on this machine, so that the port must be free here.

    Raises:
        ValueError: it is no such address, the host or the file's folder is unknown, or the port cannot be used.
    """
    source = f"--dist-url {url}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{source} is no address ({error}); give tcp://HOST:PORT.") from error
    if parts.scheme == "file" and parts.path:
        folder = os.path.dirname(parts.path)
        if not os.path.isdir(folder) or os.path.isdir(parts.path):  # PyTorch would wait for the folder
            raise ValueError(f"{source} is no place for a file; give file:///PATH in a folder that all machines share.")
        return
    if parts.scheme != "tcp" or not host or not port:
        raise ValueError(f"{source} is no address; give tcp://HOST:PORT, with a port from 1 to 65535.")
    _check(host, port, listens=listens, source=source)


def check_environment(environment: Mapping[str, str]) -> tuple[int, int, int, int]:
    """Check what `torchrun`, or whatever has started this process, says of the run in the environment.

    Returns:
        RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE.

    Raises:
        ValueError: a variable is missing or no number in its range, the host is unknown, or the port cannot be used.
    """

    def number(name: str, least: int, most: float) -> int:
        text = environment.get(name, "")
        if not text.isdecimal() or not least <= int(text) <= most:
            bound = f"from {least} to {most:.0f}" if most < float("inf") else f"of at least {least}"
            raise ValueError(
                f"The environment has {name}={text!r}, but with RANK and WORLD_SIZE set it must be a number {bound}; "
                "start the run with torchrun, or unset them."
            )
        return int(text)

    world, local_world = number("WORLD_SIZE", 1, float("inf")), number("LOCAL_WORLD_SIZE", 1, float("inf"))
    rank, local = number("RANK", 0, world - 1), number("LOCAL_RANK", 0, local_world - 1)
    port, host = number("MASTER_PORT", 1, 65535), environment.get("MASTER_ADDR", "")
    if not host:
        raise ValueError("The environment has no MASTER_ADDR; start the run with torchrun, or unset RANK.")
    # torchrun listens itself, and says so.
    listens = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    _check(host, port, listens=listens, source=f"MASTER_ADDR {host} and MASTER_PORT {port}")
    return rank, world, local, local_world


def _check(host: str, port: int, *, listens: bool, source: str) -> None:
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{source}: the host {host!r} is unknown ({error}); check its name.") from error
    if not listens:
        return
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ValueError(f"{source}: port {port} cannot be used here ({reason}); choose another one.") from error
