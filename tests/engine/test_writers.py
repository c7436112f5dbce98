"""What a run writes of its metrics, also when it is resumed: with both backends."""

import errno
import json
import math
import sys
import types

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from possam.d2.engine import TrainerBase, hooks
from possam.d2.utils import EventStorage, EventWriter
from possam.engine import load_config
from possam.engine.writers import JSONLines, LateWriter, build_writers, check_writers, set_aside


class Run(TrainerBase):
    """Losses that say by which run and in which step they were made."""

    def __init__(self, writers, *, name, period, stop=None):
        super().__init__()
        self.name, self.stop = name, stop
        self.register_hooks([hooks.PeriodicWriter(writers, period=period)])

    def run_step(self):
        if self.iter == self.stop:
            raise RuntimeError("the machine goes down")
        self.storage.put_scalar("total_loss", 1000 * self.name + self.iter)
        self.storage.put_scalar("lr", 0.5, smoothing_hint=False)


def configure(folder, *settings):
    return load_config("configs/mini/possam.yaml", ["OUTPUT_DIR", str(folder), "LOG.PERIOD", "2", *settings])


def train(folder, *settings, name=1, start=0, end=8, stop=None):
    cfg = configure(folder, *settings)
    run = Run(build_writers(cfg), name=name, period=cfg.LOG.PERIOD, stop=stop)
    if stop is None:
        return run.train(start, end)
    with pytest.raises(RuntimeError, match="goes down"):
        run.train(start, end)


def lines(folder, name="metrics.json"):
    """Strict JSON, one object a line."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in (folder / name).read_text().splitlines()]


def test_lines_come_every_period(tmp_path):
    train(tmp_path, end=5)
    assert lines(tmp_path) == [
        {"iteration": 1, "lr": 0.5, "total_loss": 1000.5},  # the median of the two steps
        {"iteration": 3, "lr": 0.5, "total_loss": 1002.5},
        {"iteration": 4, "lr": 0.5, "total_loss": 1003.5},
    ]


def test_a_resumed_run_takes_back_what_it_repeats(tmp_path):
    train(tmp_path, stop=7)
    with (tmp_path / "metrics.json").open("a") as file:
        file.write('{"iteration": 3, "total_l')  # the power failed here
    train(tmp_path, name=2, start=4)
    assert [(line["iteration"], line["total_loss"]) for line in lines(tmp_path)] == [
        (1, 1000.5),
        (3, 1002.5),
        (5, 2004.5),
        (7, 2006.5),
    ]
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in board.Scalars("total_loss")] == [
        (1, 1000.5),
        (3, 1002.5),
        (5, 2004.5),
        (7, 2006.5),
    ]


def test_a_new_run_does_not_add_to_an_old_one(tmp_path):
    train(tmp_path, end=4)
    train(tmp_path, name=2, end=2)
    assert [line["total_loss"] for line in lines(tmp_path)] == [2000.5]
    assert [line["total_loss"] for line in lines(tmp_path, "metrics.earlier.json")] == [1000.5, 1002.5]


def test_nothing_is_written_of_a_run_without_a_step(tmp_path):
    train(tmp_path, end=4)
    before = lines(tmp_path)
    train(tmp_path, start=4, end=4)
    assert lines(tmp_path) == before


def test_numbers_that_json_does_not_have_are_null(tmp_path):
    writer = JSONLines(tmp_path / "metrics.json", first_step=0)
    writer.write_step(3, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5})
    writer.close()
    assert lines(tmp_path) == [{"a": None, "b": None, "c": None, "d": 1.5, "iteration": 3}]


class Wandb(types.ModuleType):
    """Keeps what it is given, as a server would."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.finished = [], [], 0

    def init(self, **keywords):
        self.started.append(keywords)
        return types.SimpleNamespace(
            log=lambda scalars, step: self.logged.append((keywords["id"], step, scalars["total_loss"])),
            finish=lambda: setattr(self, "finished", self.finished + 1),
        )


def test_weights_and_biases_goes_on_with_the_same_run(tmp_path, monkeypatch):
    server = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", server)
    project = ["LOG.WANDB_PROJECT", "masks"]
    train(tmp_path, *project, end=4)
    train(tmp_path, *project, name=2, start=4, end=6)
    first, second = server.started
    assert first["id"] == second["id"] and first["id"] and second["resume"] == "allow"
    assert first["project"] == "masks" and first["dir"] == str(tmp_path)
    assert "mode" not in first  # the environment's WANDB_MODE decides
    assert first["config"]["SOLVER"]["MAX_ITER"] == configure(tmp_path).SOLVER.MAX_ITER
    assert [entry[1:] for entry in server.logged] == [(1, 1000.5), (3, 1002.5), (5, 2004.5)]
    assert server.finished == 2
    train(tmp_path, *project, end=2)
    assert server.started[2]["id"] != first["id"]  # a new run is a new one there too


def test_weights_and_biases_is_off_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it fails, as where it is not installed
    train(tmp_path, end=2)
    cfg = configure(tmp_path, "LOG.WANDB_PROJECT", "masks")
    for function in (check_writers, build_writers):
        with pytest.raises(ValueError, match=r"WANDB_PROJECT is 'masks', but .* run `pip install wandb`"):
            function(cfg)


def test_a_full_disk_is_said_with_the_folder_and_what_to_do(tmp_path):
    class Full(EventWriter):
        def __init__(self, first):
            pass

        def write(self):
            raise OSError(errno.ENOSPC, "No space left on device")

        close = write

    writer = LateWriter(Full, folder=tmp_path)
    writer.close()  # nothing was written
    with EventStorage() as storage:
        storage.put_scalar("lr", 1.0)
        for action in (writer.write, writer.close):
            with pytest.raises(OSError, match=rf"{tmp_path} \(No space left on device\)\. Free some space.*--resume"):
                action()


def test_what_earlier_runs_left_is_set_aside_one_beside_the_other(tmp_path):
    for number in "123":
        (tmp_path / "metrics.json").write_text(number)
        (tmp_path / "wandb_id.txt").write_text(number)
        set_aside(tmp_path)
        set_aside(tmp_path)
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ("metrics.earlier.json", "1"), ("metrics.earlier2.json", "2"), ("metrics.earlier3.json", "3"),
        ("wandb_id.earlier.txt", "1"), ("wandb_id.earlier2.txt", "2"), ("wandb_id.earlier3.txt", "3"),
    ]  # fmt: skip
