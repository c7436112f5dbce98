"""Training with the built-in runtime, on a toy model."""

import json
import os

import pytest
import torch
from torch import nn

from possam.d2._runtime.config import configurable, get_cfg
from possam.d2._runtime.engine import (
    AMPTrainer,
    DefaultTrainer,
    SimpleTrainer,
    default_argument_parser,
    default_setup,
    hooks,
)
from possam.d2._runtime.evaluation import DatasetEvaluator
from possam.d2._runtime.modeling import META_ARCH_REGISTRY
from possam.d2._runtime.utils.events import EventStorage, get_event_storage


@META_ARCH_REGISTRY.register()
class D2ToyModel(nn.Module):
    """Learns y = 2x; returns its predictions in eval mode."""

    @configurable
    def __init__(self, start=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(start)))

    @classmethod
    def from_config(cls, cfg):
        return {}

    def forward(self, batch):
        x = torch.tensor([float(item) for item in batch])
        return {"loss_fit": (self.weight * x - 2 * x).square().mean()} if self.training else self.weight * x


class WeightEvaluator(DatasetEvaluator):
    def process(self, inputs, outputs):
        self.value = float(outputs[0]) / inputs[0]

    def evaluate(self):
        return {"toy": {"weight": self.value}}


class ToyTrainer(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return [[1, 2], [3, 1]] * 50

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return [[1]]

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return WeightEvaluator()


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "D2ToyModel"
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.DATASETS.TEST = ("toy",)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = 0.01, 40, 0
    cfg.SOLVER.STEPS, cfg.SOLVER.CHECKPOINT_PERIOD = (20,), 10
    return cfg


def test_training_learns_saves_and_reports(cfg, tmp_path):
    trainer = ToyTrainer(cfg)
    trainer.train()
    assert trainer.model.weight.item() == pytest.approx(2, abs=0.25)
    assert (tmp_path / "model_0000009.pth").exists() and (tmp_path / "model_final.pth").exists()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert lines[-1]["toy/weight"] == pytest.approx(trainer.model.weight.item(), abs=1e-4)
    assert lines[0]["lr"] == 0.01 and "total_loss" in lines[0] and "time" in lines[0]
    assert any(name.startswith("events.out") for name in os.listdir(tmp_path))


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(cfg, tmp_path):
    class Interrupted(ToyTrainer):
        def run_step(self):
            if self.iter == 25:
                raise KeyboardInterrupt
            super().run_step()

    whole = ToyTrainer(cfg)
    # Every step sees the same batch, so that the loader's place does not matter.
    whole.data_loader = [[1, 3]] * 50
    whole.train()
    cfg.OUTPUT_DIR = str(tmp_path / "second")
    first = Interrupted(cfg)
    first.data_loader = [[1, 3]] * 50
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = ToyTrainer(cfg)
    second.data_loader = [[1, 3]] * 50
    second.resume_or_load(resume=True)
    assert second.start_iter == 20
    second.train()
    assert second.model.weight.item() == whole.model.weight.item()
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


def test_settings_that_need_detectron2_are_refused(cfg):
    cfg.TEST.PRECISE_BN.ENABLED = True
    with pytest.raises(ValueError, match="Detectron2"):
        ToyTrainer(cfg)
    cfg.TEST.PRECISE_BN.ENABLED = False
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 8
    with pytest.raises(ValueError, match="REFERENCE_WORLD_SIZE"):
        ToyTrainer(cfg)


def test_a_loss_that_is_not_finite_stops_training_and_hooks_still_finish():
    model = D2ToyModel(start=float("inf"))
    trainer = SimpleTrainer(model, [[1]] * 3, torch.optim.SGD(model.parameters(), 0.1))
    ended = []
    trainer.register_hooks([None, hooks.CallbackHook(after_train=lambda one: ended.append(one.iter))])
    with pytest.raises(FloatingPointError, match="iteration 0"):
        trainer.train(0, 3)
    assert ended == [0]


def test_hooks_are_called_in_order_at_every_moment():
    class Recorder(hooks.HookBase):
        def __init__(self, name):
            self.name = name

        def __getattribute__(self, attribute):
            moments = ("before_train", "before_step", "after_backward", "after_step", "after_train")
            if attribute in moments:
                return lambda: calls.append((self.name, attribute))
            return super().__getattribute__(attribute)

    calls: list[tuple[str, str]] = []
    model = D2ToyModel()
    trainer = SimpleTrainer(model, [[1]], torch.optim.SGD(model.parameters(), 0.1))
    trainer.register_hooks([Recorder("a"), Recorder("b")])
    trainer.train(4, 5)
    moments = ["before_train", "before_step", "after_backward", "after_step", "after_train"]
    assert calls == [(name, moment) for moment in moments for name in "ab"]


class RecordingScaler:
    """A gradient scaler that writes down how it is used."""

    def __init__(self):
        self.calls = []

    def scale(self, loss):
        self.calls.append("scale")
        return loss * 8

    def get_scale(self):
        return 8.0

    def step(self, optimizer):
        self.calls.append(("step", optimizer.param_groups[0]["params"][0].grad.item()))

    def update(self):
        self.calls.append("update")

    def state_dict(self):
        return {"scale": 8.0}

    def load_state_dict(self, state):
        self.calls.append(state)


def test_mixed_precision_scales_the_loss_and_keeps_the_scalers_state(monkeypatch):
    model, scaler = D2ToyModel(), RecordingScaler()
    trainer = AMPTrainer(
        model, [[1]], torch.optim.SGD(model.parameters(), 0.1), grad_scaler=scaler, log_grad_scaler=True
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AssertionError, match="CUDA"):
        trainer.train(0, 1)
    trainer = AMPTrainer(model, [[1]], trainer.optimizer, grad_scaler=scaler, log_grad_scaler=True)
    with monkeypatch.context() as patch, EventStorage() as storage:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        trainer.run_step()
        assert storage.latest()["[metric]grad_scaler"] == (8.0, 0)
    assert scaler.calls == ["scale", ("step", 8 * -4.0), "update"]  # the gradient of (0 - 2)² is -4
    trainer.load_state_dict(trainer.state_dict())
    assert scaler.calls[-1] == {"scale": 8.0}


def test_setup_leaves_a_record_and_a_seed(cfg, tmp_path):
    cfg.SEED = 5
    arguments = default_argument_parser().parse_args(["--num-gpus", "2", "--resume", "SOLVER.MAX_ITER", "3"])
    assert arguments.num_gpus == 2 and arguments.resume and arguments.opts == ["SOLVER.MAX_ITER", "3"]
    default_setup(cfg, arguments)
    first = torch.rand(1)
    default_setup(cfg, arguments)
    assert torch.equal(first, torch.rand(1))
    loaded = get_cfg()
    loaded.merge_from_file(str(tmp_path / "config.yaml"))
    assert loaded == cfg
    assert "Environment" in (tmp_path / "log.txt").read_text()


def test_scalars_outside_a_storage_are_an_error():
    with pytest.raises(AssertionError, match="EventStorage"):
        get_event_storage()
    with EventStorage(3) as storage:
        assert get_event_storage() is storage
        storage.put_scalar("a", 1.0)
        assert storage.latest() == {"a": (1.0, 3)}
