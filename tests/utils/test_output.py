"""Printing that fails costs neither results nor the command: bad encodings, closed pipes, full disks, no stdout."""

import errno
import io
import logging
import shlex
import subprocess
import sys

import pytest
from rich.progress import track

from possam.utils.output import guarded_output, run_command


class Broken(io.StringIO):
    """A stream whose every write fails, as a pipe whose reader has gone or a full disk."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, "failed")

    def flush(self):
        raise OSError(self.number, "failed")


@pytest.fixture
def stdout(monkeypatch):
    """Makes a stream the standard output. pytest sets its own between fixture and test."""
    return lambda stream: monkeypatch.setattr(sys, "stdout", stream)


def say_everything():
    print("ρ", flush=True)
    handler = logging.StreamHandler(sys.stdout)
    handler.handle(logging.LogRecord("name", logging.INFO, "file", 1, "ρ", (), None))
    return sum(track(range(3), "Bars"))


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_characters_that_an_encoding_lacks_are_replaced(encoding, stdout):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    stdout(stream)
    with guarded_output():
        print("PQ – ρ 0.5", flush=True)
    dash = "–" if encoding == "cp1252" else "?"
    assert written.getvalue().decode(encoding).strip() == f"PQ {dash} ? 0.5"
    assert sys.stdout is stream and stream.errors == "strict"


@pytest.mark.parametrize("stream", [Broken(errno.EPIPE), Broken(errno.ENOSPC), Broken(errno.EIO), None])
def test_nothing_that_is_printed_raises(stream, stdout, capsys):
    stdout(stream)
    with guarded_output():
        assert say_everything() == 3
    assert sys.stdout is stream
    assert capsys.readouterr().err == ""


def test_an_error_passes_through(stdout):
    stdout(Broken(errno.ENOSPC))
    with pytest.raises(KeyError), guarded_output():
        print("lost")
        raise KeyError
    with pytest.raises(ValueError, match="mine"):
        run_command(raising, ValueError("mine"))


def raising(error):
    print("lost")
    raise error


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(errno.EPIPE, 1, ""), (errno.ENOSPC, 1, "error: not everything could be written to standard output (failed).\n")],
)
def test_the_exit_code_of_a_command_tells_that_output_was_lost(number, code, said, stdout, capsys):
    stdout(Broken(number))
    assert run_command(print, "lost") == code
    assert capsys.readouterr().err == said
    assert run_command(raising, SystemExit(0)) == code  # as argparse ends --help
    with pytest.raises(SystemExit) as end:
        run_command(raising, SystemExit(75))
    assert end.value.code == 75
    assert run_command(lambda: 130) == 130


def test_the_exit_code_of_a_command_is_its_own_otherwise(stdout, capsys):
    assert run_command(print, "all well") == 0
    assert run_command(lambda: 3) == 3
    stdout(None)
    assert run_command(print, "nobody wants it") == 0
    assert capsys.readouterr() == ("all well\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("redirect", "code", "said"),
    [
        ("> /dev/full", 1, "error: not everything could be written to standard output (No space left on device).\n"),
        (">&-", 0, ""),
        ("> /dev/full 2>&1", 1, ""),
        ("| true; exit ${PIPESTATUS[0]}", 1, ""),
        ("2>&1 | true; exit ${PIPESTATUS[0]}", 1, ""),
    ],
)
@pytest.mark.parametrize("lines", [1, 9999])
def test_no_traceback_at_the_end_of_the_process(redirect, code, said, lines):
    program = (
        "import sys, time; from possam.utils.output import run_command; "
        f"sys.exit(run_command(lambda: time.sleep(0.1) or print('\\u03c1\\n' * {lines})))"
    )
    command = f'{shlex.quote(sys.executable)} -c "{program}" {redirect}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_log_on_a_full_disk_gives_no_traceback(capsys):
    record = logging.LogRecord("name", logging.INFO, "file", 1, "lost", (), None)
    before = logging.raiseExceptions
    assert run_command(lambda: logging.StreamHandler(Broken(errno.ENOSPC)).handle(record) and None) == 0
    assert capsys.readouterr().err == "" and logging.raiseExceptions == before
