"""A run that a signal stops saves, ends with its code, and goes on as the run that was not stopped."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from possam.d2.engine import HookBase
from possam.d2.utils import comm
from possam.engine import Trainer, load_config, prepare_datasets
from possam.engine.preemption import EXIT_CODE, SIGNALS, Preempted, Preemption, handling, preemptible

SMALL = [
    "MODEL.MASK_FORMER.DEC_LAYERS", "4", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "8",
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64",
]  # fmt: skip
STEPS, STOP = 4, 1


class Told(HookBase):
    """Sends this process a signal in a step, and keeps the losses of all."""

    def __init__(self, step, number):
        self.step, self.number, self.losses = step, number, []

    def before_step(self):
        if self.trainer.iter == self.step:
            os.kill(os.getpid(), self.number)

    def after_step(self):
        self.losses.append(self.trainer.storage.latest().get("total_loss"))


class Scored(Trainer):
    """Counts its evaluations instead of doing them."""

    count = 0

    @classmethod
    def test(cls, *_):
        Scored.count += 1
        return {}


def train(scenes, output, *settings, resume=False, tell=None, number=signal.SIGTERM):
    """Train; the losses and whether a signal ended the run."""
    places = ["OUTPUT_DIR", str(output), "MODEL.TEXT_CACHE", f"{scenes}/text", "INPUT.FEATURE_CACHE_DIR", f"{scenes}/f"]
    short = ["SOLVER.MAX_ITER", str(STEPS), "SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "2"]
    cfg = load_config("configs/mini/possam.yaml", [*SMALL, *places, *short, *settings])
    prepare_datasets(cfg)
    torch.manual_seed(99 if resume else 1)  # a new process stands elsewhere
    trainer = Scored(cfg)
    trainer.resume_or_load(resume=resume)
    told = Told(tell, number)
    trainer.register_hooks([told])
    try:
        trainer.train()
    except Preempted as end:
        assert end.code == EXIT_CODE == 75
        return told.losses, True
    return told.losses, False


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        first, second = list(first.values()), list(second.values())
    if isinstance(first, list | tuple):
        for pair in zip(first, second, strict=True):
            assert_same(*pair)
    else:
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def final(folder):
    return torch.load(Path(folder, "model_final.pth"), weights_only=True)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_run_is_saved_at_the_end_of_the_step_and_goes_on_exactly(scenes, tmp_path, number):
    before = [signal.getsignal(each) for each in SIGNALS]
    losses, ended = train(scenes, tmp_path / "told", tell=STOP, number=number)
    # The step that was under way is whole; the loss of a step is recorded within it.
    assert ended and sorted(path.name for path in (tmp_path / "told").glob("*.pth")) == [f"model_{STOP:07d}.pth"]
    assert [signal.getsignal(each) for each in SIGNALS] == before
    logged = [json.loads(line) for line in (tmp_path / "told" / "metrics.json").read_text().splitlines()]
    assert logged[-1]["iteration"] == STOP and "total_loss" in logged[-1]
    if number != SIGNALS[0]:
        return
    whole, _ = train(scenes, tmp_path / "whole")
    rest, ended = train(scenes, tmp_path / "told", resume=True)
    assert not ended and losses + rest == [*whole[:STOP], *whole[STOP + 1 :]]
    assert_same(final(tmp_path / "whole"), final(tmp_path / "told"))


def test_in_the_last_step_training_is_finished_and_the_evaluation_left(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(Scored, "count", 0)
    settings = ["SOLVER.MAX_ITER", "1", "TEST.EVAL_PERIOD", "5"]
    _, ended = train(scenes, tmp_path, *settings, tell=0)
    assert ended and Scored.count == 0
    assert [path.name for path in tmp_path.glob("*.pth")] == ["model_final.pth"]
    assert train(scenes, tmp_path, *settings, resume=True) == ([], False) and Scored.count == 1


def test_resume_without_a_checkpoint_starts_anew(scenes, tmp_path):
    assert len(train(scenes, tmp_path, "SOLVER.MAX_ITER", "1", resume=True)[0]) == 1


def _two(scenes, runs):
    """In each of two processes, of which the second alone is told."""
    whole, _ = train(scenes, runs / "whole")
    told = STOP if comm.get_rank() == 1 else None
    first, ended = train(scenes, runs / "told", tell=told, number=signal.SIGUSR1)
    saved = sorted(path.name for path in (runs / "told").glob("*.pth"))
    comm.synchronize()
    rest, _ = train(scenes, runs / "told", resume=True)
    record = {"ended": ended, "saved": saved, "same": first + rest == [*whole[:STOP], *whole[STOP + 1 :]]}
    (runs / f"{comm.get_rank()}.json").write_text(json.dumps(record))


def test_all_processes_end_when_one_was_told(two_processes, scenes, tmp_path):
    two_processes(_two, scenes, tmp_path)
    for rank in range(2):
        record = json.loads((tmp_path / f"{rank}.json").read_text())
        assert record == {"ended": True, "saved": [f"model_{STOP:07d}.pth"], "same": True}
    assert_same(final(tmp_path / "whole"), final(tmp_path / "told"))


def in_a_child(function):
    """The signal that ended a forked child that called the function, or 0."""
    pid = os.fork()
    if not pid:
        try:
            function()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("seconds, dead", [(0.0, signal.SIGTERM), (100.0, 0)])
def test_a_second_signal_ends_the_process_but_one_that_came_twice_does_not(monkeypatch, seconds, dead):
    monkeypatch.setattr("possam.engine.preemption._ONE", seconds)

    def told_twice():
        with handling(Preemption(None)._note):
            signal.raise_signal(signal.SIGUSR1)  # of another kind
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    assert in_a_child(told_twice) == dead


def test_beside_training_a_signal_ends_the_process_with_the_code():
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(SystemExit) as end, preemptible():
        signal.raise_signal(signal.SIGTERM)
    assert end.value.code == EXIT_CODE
    assert [signal.getsignal(each) for each in SIGNALS] == before
