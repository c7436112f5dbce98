"""Training of the whole model: the same run twice, in one process and in two, and what it leaves as it was."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from possam.d2.engine import HookBase
from possam.d2.utils import EventStorage, comm
from possam.engine import Trainer, load_config, prepare_datasets, unwrap
from possam.engine import trainer as module
from possam.engine.trainer import build_test_loader, build_train_loader, training_records

SMALL = [
    "MODEL.MASK_FORMER.DEC_LAYERS", "4", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "8",
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64", "DATASETS.TEST", "()",
]  # fmt: skip
STEPS = 2


class Probe(HookBase):
    """What this process saw in every step: images, the mean losses, and the gradient before it is clipped."""

    def __init__(self, trainer):
        self.images, self.gradients, self.losses = [], [], []
        unwrap(trainer.model).register_forward_pre_hook(self._see)
        trainer.register_hooks([self])
        trainer._trainer.register_hooks([Gradient(self.gradients)])

    def _see(self, _, inputs):
        self.images.append([(item["file_name"], item["image"].double().std().item()) for item in inputs[0]])

    def after_step(self):
        latest = self.trainer.storage.latest()
        self.losses.append({key: value for key, (value, _) in latest.items() if "loss" in key})


class Gradient(HookBase):
    def __init__(self, seen):
        self.seen = seen

    def after_backward(self):
        parameters = unwrap(self.trainer.model).named_parameters()
        self.seen.append({name: value.grad.clone() for name, value in parameters if value.requires_grad})


def configure(scenes, output, *settings):
    places = ["OUTPUT_DIR", str(output), "MODEL.TEXT_CACHE", f"{scenes}/text"]
    random = ["INPUT.AUGMENTATION", "lsj", "INPUT.CACHE_FEATURES", "False"]  # scale, place and mirroring
    short = ["SOLVER.MAX_ITER", str(STEPS), "SOLVER.IMS_PER_BATCH", "4"]
    cfg = load_config("configs/mini/possam.yaml", [*SMALL, *places, *random, *short, *settings])
    prepare_datasets(cfg)
    return cfg


def trained(scenes, output, *settings):
    torch.manual_seed(5)  # of the weights at the start
    trainer = Trainer(configure(scenes, output, *settings))
    torch.seed()  # whatever else has drawn random numbers changes nothing
    probe = Probe(trainer)
    trainer.train()
    return trainer, {"images": probe.images, "gradients": probe.gradients, "losses": probe.losses}


def test_the_same_seed_gives_the_same_run_and_the_frozen_encoders_stay_as_they_were(scenes, tmp_path):
    trainer, first = trained(scenes, tmp_path / "one")
    model = unwrap(trainer.model)
    frozen = {name: value for name, value in model.named_parameters() if name.startswith(("sam.", "clip."))}
    fresh = Trainer.build_model(trainer.cfg)
    assert frozen and all(torch.equal(value, fresh.get_parameter(name)) for name, value in frozen.items())
    encoders = [trainer.model.train().sam, trainer.model.clip]
    assert not any(module.training for encoder in encoders for module in encoder.modules())
    assert all(value.grad is None and not value.requires_grad for value in frozen.values())
    updated = {id(value) for group in trainer.optimizer.param_groups for value in group["params"]}
    assert updated.isdisjoint(map(id, frozen.values()))
    assert updated == {id(value) for value in model.parameters() if value.requires_grad}
    saved = torch.load(tmp_path / "one" / "model_final.pth", weights_only=True)
    assert saved["model"] and not any(name.startswith(("sam.", "clip.")) for name in saved["model"])
    for encoder, name in zip(encoders, ("sam", "clip"), strict=True):
        vars(encoder).pop("fingerprint", None)  # one that is remembered says nothing
        assert saved["frozen"][name]["fingerprint"] == getattr(fresh, name).fingerprint

    _, again = trained(scenes, tmp_path / "two")
    assert again["losses"] == first["losses"] and again["images"] == first["images"]
    assert len(first["losses"]) == STEPS and first["losses"][0] != first["losses"][1]
    _, other = trained(scenes, tmp_path / "three", "SEED", "2")
    assert other["losses"] != first["losses"] and other["images"] != first["images"]


def _two(scenes, output):
    for passes in (1, 2):
        trainer, log = trained(scenes, f"{output}/{passes}", "SOLVER.GRAD_ACCUM_STEPS", str(passes))
        torch.save(log, f"{output}/{passes}.{comm.get_rank()}.pt")
        if comm.get_rank() == 1:
            nn.init.constant_(unwrap(trainer.model).mask_decoder.norm.weight, torch.nan)
        with EventStorage(), pytest.raises(FloatingPointError, match="in process 1 .* not finite"):
            trainer.run_step()  # none waits for the other


def test_two_processes_train_as_one(two_processes, scenes, tmp_path):
    """On the same images, changed alike: the same losses and gradients.

    The IoU head's target counts the pixels of masks, and rounding, which goes by the size of a batch, can flip one.
    """
    two_processes(_two, str(scenes), str(tmp_path))
    runs = []
    for passes in (1, 2):
        two = [torch.load(tmp_path / f"{passes}.{rank}.pt", weights_only=True) for rank in range(2)]
        _, one = trained(scenes, tmp_path / "one", "SOLVER.GRAD_ACCUM_STEPS", str(passes))
        assert [len(images) for images in one["images"]] == [4 // passes] * passes * STEPS
        runs.append(one)
        for name, loss in runs[0]["losses"][0].items():
            tolerance = 1e-4 if "iou" in name or name == "total_loss" else 1e-6
            assert loss == pytest.approx(one["losses"][0][name], rel=tolerance), name
        for images, *shares in zip(one["images"], *(log["images"] for log in two), strict=True):
            assert images[0::2] == shares[0] and images[1::2] == shares[1]
        assert one["losses"][0].keys() == two[0]["losses"][0].keys()
        for step, least in enumerate((1e-6, 1e-4)):  # a step makes of a difference in the first a greater one
            for name, loss in one["losses"][step].items():
                tolerance = 3e-4 if "iou" in name or name == "total_loss" else least
                assert loss == pytest.approx(two[0]["losses"][step][name], rel=tolerance, abs=1e-9), name
        largest = max(gradient.abs().max() for gradient in one["gradients"][0].values())
        for name, gradient in one["gradients"][0].items():
            shared = two[0]["gradients"][0][name]
            assert (gradient - shared).abs().max() <= (1e-4 if "iou_head" in name else 1e-6) * largest, name
            assert torch.equal(shared, two[1]["gradients"][0][name])


def test_a_batch_that_cannot_be_shared_out_is_refused(scenes, tmp_path, monkeypatch):
    cfg = configure(scenes, tmp_path, "SOLVER.IMS_PER_BATCH", "12", "SOLVER.GRAD_ACCUM_STEPS", "4")
    assert len(next(iter(build_train_loader(cfg, training_records(cfg), None)))) == 12
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH is 12, .* of the 2 processes times SOLVER.GRAD_ACCUM_STEPS 4"):
        training_records(cfg)


def test_the_configuration_says_how_a_step_is_taken(scenes, tmp_path):
    settings = ["SOLVER.GRAD_ACCUM_STEPS", "2", "SOLVER.NON_FINITE", "skip", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.3"]
    step = Trainer(configure(scenes, tmp_path, *settings))._trainer
    assert (step.accumulate, step.skip, step.clip, step.precision) == (2, True, 0.3, None)


class Failing(HookBase):
    def __init__(self, error):
        self.error = error

    def after_step(self):
        if self.trainer.iter + 1 == self.trainer.max_iter:
            raise self.error


@pytest.mark.parametrize("error", [FloatingPointError("not finite"), KeyboardInterrupt(), None])
def test_nothing_is_evaluated_after_a_failed_last_step(scenes, tmp_path, monkeypatch, error):
    """A process that has failed alone would wait for the others."""
    evaluated = []
    monkeypatch.setattr(Trainer, "test", lambda *_: evaluated.append(True) or {})
    trainer = Trainer(configure(scenes, tmp_path))
    trainer.register_hooks([Failing(error)] if error else [])
    with pytest.raises(type(error)) if error else nullcontext():
        trainer.train()
    assert evaluated == ([] if error else [True])


def test_every_loading_process_watches_its_parent(scenes, tmp_path, monkeypatch):
    cfg = configure(scenes, tmp_path, "DATASETS.TEST", "('mini_b_report',)")
    started = []
    monkeypatch.setattr(module, "end_with_parent", lambda: started.append("watches"))
    training = build_train_loader(cfg, training_records(cfg), None)
    for loader in (training.loader, build_test_loader(cfg, "mini_b_report")):
        with torch.random.fork_rng():
            loader.worker_init_fn(0)
    assert started == ["watches", "watches"]


class Closing(HookBase):
    """A hook that cannot finish, as a writer on a full disk, or one that can."""

    def __init__(self, closed, error=None):
        self.closed, self.error = closed, error

    def after_train(self):
        self.closed.append(type(self.error))
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [OSError("the checkpoint was not saved"), FloatingPointError("not finite")])
def test_a_hook_that_cannot_finish_does_not_hide_the_error_before_it(scenes, tmp_path, caplog, error):
    trainer, closed = Trainer(configure(scenes, tmp_path)), []
    trainer.register_hooks([Failing(error), Closing(closed, OSError("No space left on device")), Closing(closed)])
    with pytest.raises(type(error), match=str(error)):
        trainer.train()
    assert closed == [OSError, type(None)]
    assert "Closing could not finish after the error: No space left on device" in caplog.text


def test_a_hook_that_cannot_finish_a_whole_training_ends_it(scenes, tmp_path):
    trainer = Trainer(configure(scenes, tmp_path))
    trainer.register_hooks([Closing([], OSError("No space left on device"))])
    with pytest.raises(OSError, match="No space left on device"):
        trainer.train()


@pytest.mark.parametrize(("last", "weights", "told"), [(1, "", ""), (1, "w.pth", "w.pth is not loaded"),
                                                       (3, "", "had all 4 steps of SOLVER.MAX_ITER")])  # fmt: skip
def test_what_a_resumed_run_does_not_do_is_told(caplog, last, weights, told):
    trainer = Trainer.__new__(Trainer)
    trainer.cfg = load_config("configs/mini/possam.yaml", ["SOLVER.MAX_ITER", "4", "MODEL.WEIGHTS", weights])
    trainer.max_iter, trainer.start_iter, trainer.iter = 4, 0, last
    trainer.checkpointer = SimpleNamespace(resume_or_load=lambda *_, **__: None, has_checkpoint=lambda: True)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == last + 1
    assert (told in caplog.text) if told else not caplog.records
    caplog.clear()
    trainer.start_iter = 0
    trainer.resume_or_load(resume=False)
    assert not caplog.records
