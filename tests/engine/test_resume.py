"""A run that is stopped and goes on is, bit for bit, the run that was not stopped."""

import itertools
import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from possam.d2.engine import HookBase
from possam.d2.utils import comm
from possam.engine import Checkpointer, Trainer, load_config, prepare_datasets
from possam.engine.hooks import ExactResume
from possam.engine.resume import ResumableLoader, TrainingOrder, seed_step
from possam.engine.trainer import build_train_loader, training_records

STEPS, STOP = 5, 3
SMALL = [
    "MODEL.MASK_FORMER.DEC_LAYERS", "4", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "8",
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64", "DATASETS.TEST", "()",
]  # fmt: skip


class Recorder(HookBase):
    """What every step of this process saw: images, learning rates, losses, and where its random numbers stand."""

    def __init__(self, disturb):
        self.disturb, self.log = disturb, []

    def before_train(self):
        self.trainer.model.register_forward_pre_hook(self._see)

    def _see(self, _, inputs):
        self.images += [[item["file_name"], float(item["image"].double().std())] for item in inputs[0]]

    def before_step(self):
        self.images = []

    def after_step(self):
        stands = [random.random(), np.random.rand(), torch.rand(()).item()]
        latest = self.trainer.storage.latest()
        losses = {key: value for key, (value, _) in latest.items() if "loss" in key}
        rates = [group["lr"] for group in self.trainer.optimizer.param_groups]
        self.log.append([self.trainer.iter, self.images, rates, losses, stands])
        if self.disturb:  # as an evaluation between two steps may
            random.random(), np.random.rand(3), torch.rand(5)


def configure(scenes, output, *settings):
    places = ["OUTPUT_DIR", str(output), "MODEL.TEXT_CACHE", f"{scenes}/text", "INPUT.FEATURE_CACHE_DIR", f"{scenes}/f"]
    short = ["SOLVER.MAX_ITER", str(STEPS), "SOLVER.IMS_PER_BATCH", "2", "SOLVER.CHECKPOINT_PERIOD", str(STOP)]
    cfg = load_config("configs/mini/possam.yaml", [*SMALL, *places, *short, *settings])
    prepare_datasets(cfg)
    return cfg


def train(cfg, *, resume):
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    recorder = Recorder(disturb=not resume)
    trainer.register_hooks([recorder])
    trainer.train()
    return recorder.log


def whole_and_resumed(scenes, runs, *settings):
    """The logs of a run and of one that goes on from its checkpoint at `STOP`, in a folder of its own."""
    seed_step(1, 0)
    whole = train(configure(scenes, f"{runs}/whole", *settings), resume=False)
    resumed = Path(runs, "resumed")
    if comm.is_main_process():
        resumed.mkdir()
        shutil.copy(f"{runs}/whole/model_{STOP - 1:07d}.pth", resumed)
        (resumed / "last_checkpoint").write_text(f"model_{STOP - 1:07d}.pth")
    comm.synchronize()
    seed_step(99, 0)  # a new process stands elsewhere
    return whole, train(configure(scenes, resumed, *settings), resume=True)


def assert_same_run(whole, resumed, runs):
    assert [entry[0] for entry in resumed] == list(range(STOP, STEPS))
    assert resumed == whole[STOP:]
    paths = [Path(runs, name, "model_final.pth") for name in ("whole", "resumed")]
    first, second = (torch.load(path, weights_only=True) for path in paths)
    assert first["trainer"]["_trainer"]["optimizer"]["state"]
    assert_equal(first, second)


def assert_equal(first, second, place=""):
    assert type(first) is type(second), place
    if isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for key in first:
            assert_equal(first[key], second[key], f"{place}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), place
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_equal(*pair, f"{place}.{number}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), place
    else:
        assert first == second, place


@pytest.mark.parametrize("passes", [1, 2])
def test_a_resumed_run_is_the_uninterrupted_one(scenes, tmp_path, passes):
    whole, resumed = whole_and_resumed(scenes, tmp_path, "SOLVER.GRAD_ACCUM_STEPS", str(passes))
    assert_same_run(whole, resumed, tmp_path)
    seen = [name for entry in whole for name, _ in entry[1]]
    assert len(set(seen[:5])) == len(set(seen[5:])) == 5 and seen[:5] != seen[5:]
    assert len({tuple(entry[4]) for entry in whole}) == STEPS


LABELS = ["DATASETS.TRAIN", "('mini_a_train', 'mini_b_labels')", "DATASETS.TRAIN_WEIGHTS", "[2.0, 3.0]"]


def test_a_resumed_run_of_two_weighted_datasets_is_the_uninterrupted_one(scenes, tmp_path):
    """One with masks and one with image labels, each with its vocabulary."""
    whole, resumed = whole_and_resumed(scenes, tmp_path, *LABELS)
    assert_same_run(whole, resumed, tmp_path)
    folders = {Path(name).parts[-3] for entry in whole for name, _ in entry[1]}
    assert folders == {"mini_a_train", "mini_b_labels"}
    assert any("loss_match" in entry[3] for entry in whole)
    with pytest.raises(ValueError, match="DATASETS.TRAIN_WEIGHTS was .2.0, 3.0., is .1.0, 1.0."):
        train(configure(scenes, tmp_path / "resumed", *LABELS[:3], "[1.0, 1.0]"), resume=True)


def test_a_resumed_run_may_share_its_images_out_otherwise(scenes, tmp_path):
    """As on fewer or smaller GPUs: the same images and learning rates, on the same optimizer."""
    whole = train(configure(scenes, tmp_path), resume=False)
    (tmp_path / "last_checkpoint").write_text(f"model_{STOP - 1:07d}.pth")
    (tmp_path / "model_final.pth").unlink()
    resumed = train(configure(scenes, tmp_path, "SOLVER.GRAD_ACCUM_STEPS", "2"), resume=True)
    assert [entry[:3] for entry in resumed] == [entry[:3] for entry in whole[STOP:]]
    assert resumed[0][3]["loss_class"] == pytest.approx(whole[STOP][3]["loss_class"], rel=0.1)  # of other points


def test_a_resumed_run_follows_the_present_settings_from_its_first_step(scenes, tmp_path, caplog):
    """Of a cosine that had come to 0, whose end is now later."""
    cosine = ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.WARMUP_ITERS", "0", "SOLVER.BASE_LR", "1e-3"]
    train(configure(scenes, tmp_path, *cosine, "SOLVER.MAX_ITER", "1"), resume=False)
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
    caplog.clear()
    train(configure(scenes, tmp_path, *cosine, "SOLVER.MAX_ITER", "1"), resume=True)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "has had all 1 steps of SOLVER.MAX_ITER" in warning  # and nothing about settings, which are as they were

    settings = ["SOLVER.BASE_LR", "2e-3", "SOLVER.WEIGHT_DECAY", "0.0", "SOLVER.OPTIMIZER_EPS", "1e-6"]
    cfg = configure(scenes, tmp_path, *cosine, *settings, "SOLVER.MAX_ITER", "2")
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    (group,) = trainer.optimizer.param_groups  # all with the same weight decay now
    assert (group["weight_decay"], group["eps"], group["initial_lr"]) == (0.0, 1e-6, 2e-3)
    assert group["lr"] == trainer.scheduler.get_lr()[0] == pytest.approx(1e-3)  # half-way
    for key, old, new in [("BASE_LR", "0.001", "0.002"), ("WEIGHT_DECAY", "0.05", "0.0"), ("MAX_ITER", "1", "2"),
                          ("OPTIMIZER_EPS", "1e-08", "1e-06")]:  # fmt: skip
        assert f"SOLVER.{key} was {old}, is {new}" in caplog.text
    trainer.train()
    assert trainer.storage.latest()["lr"] == (pytest.approx(1e-3), 1)

    for key in ("config", "images"):  # as of an earlier version
        del saved["trainer"][key]
    torch.save(saved, tmp_path / "model_final.pth")
    (tmp_path / "manifest.json").unlink()
    caplog.clear()
    old = Trainer(configure(scenes, tmp_path, *cosine, "SOLVER.MAX_ITER", "2"))
    old.resume_or_load(resume=True)
    assert "does not keep the settings it was trained with" in caplog.text
    assert old.start_iter == 1 and old.optimizer.param_groups[0]["lr"] == pytest.approx(5e-4)


def test_a_new_run_in_an_old_folder_is_the_one_that_is_resumed(scenes, tmp_path, caplog):
    one = ["SOLVER.MAX_ITER", "1"]
    train(configure(scenes, tmp_path, *one), resume=False)
    assert "earlier run" not in caplog.text
    new = Trainer(configure(scenes, tmp_path, *one))
    new.resume_or_load(resume=False)
    new.max_iter = 0  # stopped before its first step
    new.train()
    assert "already has checkpoints of an earlier run" in caplog.text and "/model_final.pth. The" in caplog.text
    assert "set MODEL.WEIGHTS" in caplog.text
    assert (tmp_path / "metrics.earlier.json").is_file() and not (tmp_path / "metrics.json").exists()
    assert [entry[0] for entry in train(configure(scenes, tmp_path, *one), resume=True)] == [0]
    assert train(configure(scenes, tmp_path, *one), resume=True) == []


def _two(scenes, runs):
    logs = whole_and_resumed(scenes, runs)
    rank = comm.get_rank()
    Path(runs, f"{rank}.json").write_text(json.dumps(logs))
    lost = Path(runs, "lost")
    if rank == 0:
        lost.mkdir()
        (lost / "model_0000001.pth").write_bytes(b"")
    comm.synchronize()
    with pytest.raises(ValueError, match="is whole") as error:  # all processes stop, and none waits for another
        Checkpointer(torch.nn.Linear(1, 1), str(lost)).resume_or_load("", resume=True)
    Path(runs, f"{rank}.txt").write_text(str(error.value))


def test_two_processes_resume_as_exactly(two_processes, scenes, tmp_path):
    two_processes(_two, str(scenes), str(tmp_path))
    logs = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for whole, resumed in logs:
        assert_same_run(whole, resumed, tmp_path)
    for first, second in zip(logs[0][0], logs[1][0], strict=True):
        assert first[1] != second[1] and first[4] == second[4]  # other images, the same random numbers
    assert (tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()


def batches(cfg, count, *, skip=0):
    loader = build_train_loader(cfg, training_records(cfg), None)
    loader.skip(skip)
    return [
        [(item["file_name"], item["image"], item["instances"].gt_masks.tensor) for item in batch]
        for batch in itertools.islice(loader, count)
    ]


def test_loading_processes_change_nothing_and_read_ahead_in_vain(scenes, tmp_path):
    """The scale and the place of the crop are random."""
    settings = ["INPUT.AUGMENTATION", "lsj", "INPUT.CACHE_FEATURES", "False"]
    cfg = configure(scenes, tmp_path, *settings)
    whole = batches(cfg, 6)
    images = [item[1] for batch in whole for item in batch]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(images, 2))
    cfg.DATALOADER.NUM_WORKERS = 2
    assert_equal(whole[3:], batches(cfg, 3, skip=6))


def test_loading_a_batch_does_not_change_the_random_numbers_of_a_step(scenes, tmp_path):
    cfg = configure(scenes, tmp_path, "INPUT.AUGMENTATION", "lsj", "INPUT.CACHE_FEATURES", "False")
    seed_step(1, 7)
    expected = [random.random(), np.random.rand(), torch.rand(()).item()]
    seed_step(1, 7)
    batches(cfg, 1)
    assert [random.random(), np.random.rand(), torch.rand(()).item()] == expected
    others = []
    for seed, step in [(2, 7), (1, 8)]:
        seed_step(seed, step)
        others += [random.random(), np.random.rand(), torch.rand(()).item()]
    assert len({*expected, *others}) == 9


# ------------------------------------------------------------------ the order alone


def order(*, rank=0, world_size=1, batch_size=2, size=5, wide=None, parts=()):
    made = TrainingOrder(size=size, batch_size=batch_size, seed=3, wide=wide, parts=parts)
    made.rank, made.world_size = rank, world_size
    return made


def take(made, count):
    return list(itertools.islice(made, count))


def test_every_epoch_has_every_image_once_over_all_processes():
    draws = sorted(take(order(world_size=2), 10) + take(order(rank=1, world_size=2), 10), key=lambda draw: draw.number)
    assert draws == take(order(), 20)
    epochs = [[draw.image for draw in draws[start : start + 5]] for start in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs) and epochs[0] != epochs[1]


def test_parts_are_drawn_by_weight_each_in_epochs_of_its_own():
    parts = ((3, 1.0), (2, 4.0))
    draws = take(order(parts=parts), 5000)
    drawn = {part: [draw.image for draw in draws if (draw.image >= 3) == part] for part in (False, True)}
    assert len(drawn[True]) == pytest.approx(4000, abs=100)  # 3.5 standard deviations
    for images, size, first in ((drawn[False], 3, 0), (drawn[True], 2, 3)):
        epochs = [images[at : at + size] for at in range(0, len(images) - size, size)]
        assert all(sorted(epoch) == list(range(first, first + size)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1
    shares = [take(order(rank=rank, world_size=2, parts=parts), 2500) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1], key=lambda draw: draw.number) == draws
    resumed = order(parts=parts)
    resumed.skipped = 1000
    assert take(resumed, 10) == draws[2000:2010]


def test_batches_of_one_kind_stay_so_after_a_resume():
    wide = [True, False, False, True, True]
    whole = take(order(wide=wide), 40)
    assert all(wide[whole[at].image] == wide[whole[at + 1].image] for at in range(0, 40, 2))
    assert len({draw.number for draw in whole}) == 40
    resumed = order(wide=wide)
    resumed.skipped = 7
    assert take(resumed, 26) == whole[14:]


def test_another_number_of_processes_goes_on_with_the_images_not_yet_seen():
    before = ResumableLoader(None, order(world_size=2, batch_size=1))
    before.batches = 3
    state = before.state_dict()
    assert state == {"seed": 3, "size": 5, "images": 6}
    after = ResumableLoader([], order())
    after.load_state_dict(state)
    assert list(after) == [] and take(after.order, 4) == take(order(), 10)[6:]


def test_a_seed_that_was_drawn_is_gone_on_with():
    after = ResumableLoader([], order())
    after.load_state_dict({"seed": 8, "size": 5, "images": 0})
    assert after.seed == 8 and take(after.order, 10) != take(order(), 10)


def test_a_checkpoint_that_does_not_keep_its_place_is_taken_to_have_had_a_batch_a_step(caplog):
    loader = ResumableLoader([], order())
    hook = ExactResume(loader)
    hook.trainer = SimpleNamespace(start_iter=3)
    hook.before_train()
    assert loader.batches == 3 and "does not keep its place in the data" in caplog.text
    loader.skip(0)
    caplog.clear()
    hook.load_state_dict({"seed": 3, "size": 5, "images": 8})
    hook.before_train()
    assert loader.batches == 4 and not caplog.text


def test_other_data_cannot_be_gone_on_with():
    with pytest.raises(ValueError, match="was trained on 6 images, but DATASETS.TRAIN has 5"):
        ResumableLoader([], order()).load_state_dict({"seed": 3, "size": 6, "images": 6})
