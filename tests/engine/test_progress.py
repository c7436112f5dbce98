"""What a person sees of a training run: on a terminal, and in a file."""

import logging
import os
import re
import sys
import threading
import time

import pytest
from rich.console import Console
from rich.progress import track

from possam.d2.engine import HookBase, TrainerBase
from possam.engine.progress import TrainingProgress, peak_memory

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LINE = re.compile(
    r"step (\d+)/6  loss 3\.5 \(class 1\.5, mask 2\)  lr 0\.0001  [\d.,]+ images/s  [\d,]+ MiB  0:00:0\d left"
)


class Run(TrainerBase):
    def run_step(self):
        time.sleep(0.01)
        self.storage.put_scalars(total_loss=3.5, loss_class=1.5, loss_mask=2.0, loss_class_0=9.0)
        self.storage.put_scalar("lr", 1e-4, smoothing_hint=False)


class Interruptions(HookBase):
    """Logs, prints and evaluates between the steps, or fails."""

    def __init__(self, console, fail_at=None):
        self.console, self.fail_at = console, fail_at

    def after_step(self):
        if self.trainer.iter == self.fail_at:
            raise RuntimeError("no more")
        logging.getLogger("possam.test").info("checkpoint %d is whole", self.trainer.iter)
        print(f"table {self.trainer.iter}")
        for _ in track(range(2), "Evaluating", transient=True, console=self.console):
            pass


def run(console, **options):
    """Six steps; returns the scalars' histories."""
    trainer = Run()
    progress = TrainingProgress(images=16, period=2, console=console)
    trainer.register_hooks([progress, Interruptions(console, **options)])
    trainer.train(0, 6)
    return {name: history.values() for name, history in trainer.storage.histories().items()}


@pytest.fixture
def loggers():
    """set_up(): send possam's log to what is the standard output then. All is undone at the end."""
    logger = logging.getLogger("possam")
    level, handlers = logger.level, list(logger.handlers)

    def set_up():
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)  # loggers below it forget what they had found out
        return handler

    yield set_up
    logger.handlers = handlers
    logger.setLevel(level)


class Terminal:
    """A pseudo-terminal; `text` is all that was written to it."""

    def __init__(self):
        self.master, slave = os.openpty()
        self.file = os.fdopen(slave, "w", buffering=1, encoding="utf-8")
        self.text = ""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # Linux says so when the other end is closed
                return
            if not data:
                return
            self.text += data.decode(errors="replace")

    def close(self):
        self.file.close()
        self.reader.join(5)
        os.close(self.master)
        return self.text


@pytest.fixture
def terminal(monkeypatch):
    """A terminal that `take()` puts in place of the standard output, whatever the environment says of it."""
    for name in ("NO_COLOR", "CI", "TTY_COMPATIBLE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Terminal()
    made.take = lambda: monkeypatch.setattr(sys, "stdout", made.file)  # pytest sets its own between fixture and test
    yield made
    if not made.file.closed:
        made.close()


def test_a_terminal_has_one_line_and_everything_else_above_it(terminal, loggers):
    terminal.take()
    handler = loggers()
    histories = run(Console(width=140))
    assert sys.stdout is terminal.file and handler.stream is terminal.file and not handler.filters
    written = terminal.close()
    plain = ESCAPE.sub("", written).replace("\r", "\n")
    rows = plain.split("\n")
    for step in range(6):
        assert rows.count(f"[INFO] checkpoint {step} is whole") == 1, step  # whole, and alone in its row
        assert rows.count(f"table {step}") == 1
    assert re.search(r"Training .* left  loss 3\.5 \(class 1\.5, mask 2\)  lr 0\.0001 .* images/s .* MiB", plain)
    assert "step 2/6" not in plain  # the line says it already
    assert written.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in written.rsplit("table 5", 1)[1][-200:]
    assert [len(histories[name]) for name in ("images_per_second", "max_mem", "eta_seconds")] == [6, 4, 4]


def test_a_narrow_terminal_keeps_step_and_time_left(terminal, loggers):
    terminal.take()
    loggers()
    run(Console(width=60))
    plain = ESCAPE.sub("", terminal.close()).replace("\r", "\n")
    assert re.search(r"^Training .* 2/6 0:00:0\d left  loss 3\.5.*…", plain, re.M)


def test_a_narrow_terminal_without_the_mark_of_what_is_cut_off_ends_no_run(terminal, loggers):
    terminal.file.reconfigure(encoding="ascii")
    terminal.take()
    loggers()
    run(Console(width=60))
    assert re.search(r"Training .* 2/6 0:00:0\d left  loss 3", ESCAPE.sub("", terminal.close()))


def test_the_terminal_is_left_whole_by_a_run_that_fails(terminal, loggers):
    terminal.take()
    handler = loggers()
    with pytest.raises(RuntimeError, match="no more"):
        run(Console(width=140), fail_at=3)
    assert sys.stdout is terminal.file and handler.stream is terminal.file and not handler.filters
    assert terminal.close().count("\x1b[?25l") == terminal.text.count("\x1b[?25h")  # the cursor is shown again


def test_a_file_has_plain_lines(tmp_path, monkeypatch, loggers):
    with (tmp_path / "out.txt").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        loggers()
        histories = run(Console(file=file))
    text = (tmp_path / "out.txt").read_text()
    assert "\x1b" not in text and "Training" not in text
    steps = [match[1] for match in map(LINE.search, text.splitlines()) if match]
    assert steps == ["1", "2", "4", "6"]  # the first one too: is it learning, does it fit, when will it be done?
    speeds = [value for value, _ in histories["images_per_second"]]
    assert all(100 < speed < 1600 for speed in speeds)  # 16 images in 10 ms or more
    assert histories["eta_seconds"][-1] == (0.0, 5) and 0.01 < histories["eta_seconds"][0][0] < 5
    assert histories["max_mem"][-1][0] == pytest.approx(peak_memory(), rel=0.5)


def test_several_processes_have_plain_lines(terminal, loggers, monkeypatch):
    from possam.engine import progress

    monkeypatch.setattr(progress.comm, "get_world_size", lambda: 2)
    terminal.take()
    loggers()
    run(Console(width=140))
    text = ESCAPE.sub("", terminal.close())
    assert len(LINE.findall(text)) == 4 and "Training" not in text
