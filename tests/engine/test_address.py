"""Where processes cannot meet is said before any of them waits."""

import argparse
import os
import socket

import pytest

from possam.engine import launch
from possam.engine.address import check_environment, check_url


@pytest.fixture
def taken():
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return port


@pytest.mark.parametrize(
    "url", ["foo", "", "tcp://", "tcp://127.0.0.1", "tcp://:80", "tcp://a:0", "tcp://a:99999", "tcp://a:b", "tcp://[",
            "http://127.0.0.1:29519", "file://", "env://", "127.0.0.1:29519", "tcp://127.0.0.1:-1"]
)  # fmt: skip
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError, match=r"--dist-url .*is no address.* tcp://HOST:PORT"):
        check_url(url, listens=True)


def test_a_file_needs_a_folder(tmp_path):
    check_url(f"file://{tmp_path}/meet", listens=True)
    for place in (tmp_path, tmp_path / "none" / "meet"):
        with pytest.raises(ValueError, match=f"--dist-url file://{place} is no place for a file"):
            check_url(f"file://{place}", listens=True)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 80])
def test_an_unknown_host_is_named(host):
    with pytest.raises(ValueError, match=f"the host '{host}' is unknown"):
        check_url(f"tcp://{host}:29519", listens=False)


def test_a_port_must_be_free_on_the_machine_that_listens(taken, free):
    with pytest.raises(ValueError, match=rf"--dist-url tcp://127.0.0.1:{taken}: port {taken} cannot be used here"):
        check_url(f"tcp://127.0.0.1:{taken}", listens=True)
    check_url(f"tcp://127.0.0.1:{taken}", listens=False)
    check_url(f"tcp://localhost:{free}", listens=True)
    check_url("file:///tmp/meeting", listens=True)


def environment(port, **changes):
    sound = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    return {**sound, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **changes}


def test_a_sound_environment_is_read(taken, free):
    assert check_environment(environment(free)) == (0, 2, 0, 2)
    assert check_environment(environment(taken, RANK="1", LOCAL_RANK="1")) == (1, 2, 1, 2)
    assert check_environment(environment(taken, TORCHELASTIC_USE_AGENT_STORE="True")) == (0, 2, 0, 2)
    with pytest.raises(ValueError, match=f"MASTER_PORT {taken}: port {taken} cannot be used here"):
        check_environment(environment(taken))


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "2"), ("RANK", "-1"), ("RANK", "x"), ("WORLD_SIZE", "0"), ("LOCAL_RANK", ""), ("LOCAL_RANK", "2"),
     ("LOCAL_WORLD_SIZE", "0"), ("MASTER_PORT", "65536"), ("MASTER_PORT", ""), ("MASTER_PORT", "0")],
)  # fmt: skip
def test_a_wrong_variable_is_named(name, value, free):
    with pytest.raises(ValueError, match=rf"The environment has {name}='{value}', but .*a number (from|of at least)"):
        check_environment(environment(free, **{name: value}))


def test_an_address_is_needed(free):
    with pytest.raises(ValueError, match="no MASTER_ADDR"):
        check_environment(environment(free, MASTER_ADDR=""))
    with pytest.raises(ValueError, match="the host 'no-such-host.invalid' is unknown"):
        check_environment(environment(free, MASTER_ADDR="no-such-host.invalid"))


@pytest.mark.parametrize(("option", "count"), [("num_gpus", 0), ("num_gpus", -2), ("num_machines", 0)])
def test_a_run_has_a_process(monkeypatch, option, count):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    how = {"num_gpus": 2, "num_machines": 2, "machine_rank": 0, "dist_url": "auto", option: count}
    with pytest.raises(ValueError, match=f"--{option.replace('_', '-')} is {count}, but must be at least 1"):
        launch.run(lambda _: pytest.fail("it ran"), argparse.Namespace(**how))


def test_nothing_is_started_where_processes_cannot_meet(taken, free, monkeypatch):
    monkeypatch.setattr(launch, "_start", lambda *_: pytest.fail("processes were started"))
    monkeypatch.setattr(launch, "_join", lambda *_: pytest.fail("a process waits"))
    monkeypatch.setattr(launch.torch.cuda, "is_available", lambda: False)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def run(url, machine_rank=0):
        how = {"num_gpus": 2, "num_machines": 1, "machine_rank": machine_rank, "dist_url": url}
        launch.run(lambda _: None, argparse.Namespace(**how))

    with pytest.raises(ValueError, match=f"port {taken} cannot be used"):
        run(f"tcp://127.0.0.1:{taken}")
    with pytest.raises(ValueError, match="--dist-url foo is no address"):
        run("foo")
    with pytest.raises(ValueError, match="--machine-rank is 1, but must be from 0 to 0"):
        run(f"tcp://127.0.0.1:{free}", machine_rank=1)
    for name, value in environment(taken).items():
        monkeypatch.setitem(os.environ, name, value)
    with pytest.raises(ValueError, match=f"port {taken} cannot be used"):
        run("auto")
