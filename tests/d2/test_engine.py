"""Training with the built-in runtime, on a toy model."""

import os
import weakref

import pytest
import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from possam.d2._runtime.config import get_cfg
from possam.d2._runtime.engine import (
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    default_argument_parser,
)
from possam.d2._runtime.utils.events import EventStorage, EventWriter, get_event_storage


class ToyModel(nn.Module):
    """Learns y = 2x."""

    def __init__(self, start=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(start)))

    def forward(self, batch):
        x = torch.tensor([float(item) for item in batch])
        return {"loss_fit": (self.weight * x - 2 * x).square().mean()}


class ToyStep(SimpleTrainer):
    def run_step(self):
        losses = self.model(self.data_loader[self.iter % len(self.data_loader)])
        self.optimizer.zero_grad()
        losses["loss_fit"].backward()
        self.after_backward()
        self.write_metrics({name: loss.detach() for name, loss in losses.items()}, 0.0, self.iter)
        self.optimizer.step()


def toy_step(start=0.0, batches=((1, 3),), rate=0.1):
    model = ToyModel(start)
    return ToyStep(model, batches, torch.optim.SGD(model.parameters(), rate))


class RecordingWriter(EventWriter):
    def __init__(self):
        self.lines = []

    def write(self):
        self.lines.append(get_event_storage().latest_with_smoothing_hint(1))


class ToyTrainer(DefaultTrainer):
    def __init__(self, cfg):
        TrainerBase.__init__(self)
        self._trainer = toy_step(rate=cfg.SOLVER.BASE_LR)
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer)
        self.checkpointer = Checkpointer(self.model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.writer, self.start_iter, self.max_iter, self.cfg = RecordingWriter(), 0, cfg.SOLVER.MAX_ITER, cfg
        self.register_hooks(self.build_hooks())

    def build_writers(self):
        return [self.writer]

    @classmethod
    def test(cls, cfg, model):
        return {"toy": {"weight": model.weight.item()}}


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = 0.01, 40, 0
    cfg.SOLVER.STEPS, cfg.SOLVER.CHECKPOINT_PERIOD = (20,), 10
    return cfg


def test_training_learns_saves_and_reports(cfg, tmp_path):
    trainer = ToyTrainer(cfg)
    trainer.train()
    assert trainer.model.weight.item() == pytest.approx(2, abs=0.25)
    assert (tmp_path / "model_0000009.pth").exists() and (tmp_path / "model_final.pth").exists()
    first, last = trainer.writer.lines[0], trainer.writer.lines[-1]
    assert last["toy/weight"] == (trainer.model.weight.item(), 40)
    assert first["lr"] == (0.01, 19) and "total_loss" in first and "time" in first


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(cfg, tmp_path):
    class Interrupted(ToyTrainer):
        def run_step(self):
            if self.iter == 25:
                raise KeyboardInterrupt
            super().run_step()

    whole = ToyTrainer(cfg)
    whole.train()
    cfg.OUTPUT_DIR = str(tmp_path / "second")
    os.mkdir(cfg.OUTPUT_DIR)
    with pytest.raises(KeyboardInterrupt):
        Interrupted(cfg).train()
    second = ToyTrainer(cfg)
    second.resume_or_load(resume=True)
    assert second.start_iter == 20
    second.train()
    assert second.model.weight.item() == whole.model.weight.item()
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


def test_settings_that_need_detectron2_are_refused(cfg):
    cfg.TEST.PRECISE_BN.ENABLED = True
    with pytest.raises(ValueError, match="Detectron2"):
        ToyTrainer(cfg)


def test_a_loss_that_is_not_finite_stops_training_and_hooks_still_finish():
    class End(HookBase):
        def after_train(self):
            ended.append(self.trainer.iter)

    trainer, ended = toy_step(start=float("inf")), []
    trainer.register_hooks([None, End()])
    with pytest.raises(FloatingPointError, match="iteration 0"):
        trainer.train(0, 3)
    assert ended == [0]


def test_hooks_are_called_in_order_at_every_moment():
    class Recorder(HookBase):
        def __init__(self, name):
            self.name = name

        def __getattribute__(self, attribute):
            moments = ("before_train", "before_step", "after_backward", "after_step", "after_train")
            if attribute in moments:
                return lambda: calls.append((self.name, attribute))
            return super().__getattribute__(attribute)

    calls: list[tuple[str, str]] = []
    trainer = toy_step()
    trainer.register_hooks([Recorder("a"), Recorder("b")])
    trainer.train(4, 5)
    moments = ["before_train", "before_step", "after_backward", "after_step", "after_train"]
    assert calls == [(name, moment) for moment in moments for name in "ab"]


def test_the_command_line_has_the_standard_options():
    arguments = default_argument_parser().parse_args(["--num-gpus", "2", "--resume", "SOLVER.MAX_ITER", "3"])
    assert arguments.num_gpus == 2 and arguments.resume and arguments.opts == ["SOLVER.MAX_ITER", "3"]


def test_scalars_outside_a_storage_are_an_error():
    with pytest.raises(AssertionError, match="EventStorage"):
        get_event_storage()
    with EventStorage(3) as storage:
        assert get_event_storage() is storage
        storage.put_scalar("a", 1.0)
        assert storage.latest() == {"a": (1.0, 3)}
