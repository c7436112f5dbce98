"""The record of a run's settings, and its seed."""

import argparse

import pytest
import torch

from possam.cli import job
from possam.engine import setup
from possam.engine.setup import keep_config, set_up


def kept(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("config*.yaml")}


@pytest.fixture
def run(mini_config, tmp_path):
    """The settings of a training, and how its folder would have them."""
    mini_config.OUTPUT_DIR = str(tmp_path / "run")
    return mini_config, tmp_path / "run"


def test_a_training_keeps_its_settings_and_earlier_ones_that_differ(run):
    cfg, folder = run
    written = []
    for steps in (10, 10, 20, 30):
        cfg.SOLVER.MAX_ITER = steps
        keep_config(cfg, eval_only=False)
        written.append(cfg.dump())
    names = ("config.earlier.yaml", "config.earlier.2.yaml", "config.yaml")
    assert kept(folder) == dict(zip(names, written[1:], strict=True))


def test_an_evaluation_leaves_the_settings_of_the_training(run):
    cfg, folder = run
    keep_config(cfg, eval_only=False)
    training = cfg.dump()
    cfg.TEST.DETECTIONS_PER_IMAGE = 7
    keep_config(cfg, eval_only=True)
    assert kept(folder) == {"config.yaml": training, "evaluation/config.yaml": cfg.dump()}


@pytest.mark.parametrize("work", [job._evaluate, lambda cfg: job._train(cfg, resume=True)], ids=["evaluate", "resume"])
def test_weights_that_do_not_fit_leave_no_settings(run, work, monkeypatch):
    cfg, folder = run

    def misfit(*_, **__):
        raise ValueError("does not fit")

    monkeypatch.setattr(job.Checkpointer, "load", misfit)
    monkeypatch.setattr(job, "Trainer", Misfit)
    monkeypatch.setattr(job, "check_class_names", lambda *_: None)
    cfg.DATASETS.TEST = ()
    with pytest.raises(ValueError, match="does not fit"):
        work(cfg)
    assert kept(folder) == {}


class Misfit:
    """A trainer whose checkpoint belongs to another model."""

    build_model = staticmethod(lambda cfg: torch.nn.Linear(1, 1))

    def __init__(self, cfg):
        pass

    def resume_or_load(self, *, resume):
        raise ValueError("does not fit")


def test_setting_up_seeds_and_writes_no_settings(run, monkeypatch):
    cfg, folder = run
    monkeypatch.setattr(setup, "setup_logger", lambda *_, **__: None)
    cfg.SEED = 5
    set_up(cfg, argparse.Namespace(eval_only=False))
    first = torch.rand(1)
    set_up(cfg, argparse.Namespace(eval_only=True))
    assert torch.equal(first, torch.rand(1))
    torch.manual_seed(5)
    assert torch.equal(first, torch.rand(1))
    assert kept(folder) == {}


@pytest.mark.parametrize("name", ["run.txt", "run.log", "run"])
def test_a_folder_may_be_called_as_a_log(mini_config, tmp_path, monkeypatch, name):
    files = []
    monkeypatch.setattr(setup, "setup_logger", lambda file, **_: files.append(file))
    mini_config.OUTPUT_DIR = str(tmp_path / name)
    set_up(mini_config, argparse.Namespace(eval_only=False))
    assert set(files) == {str(tmp_path / name / "log.txt")}


@pytest.mark.parametrize("place", ["evaluation", "evaluation/mini_b_report"])
def test_a_file_in_the_place_of_the_results_is_told_before_work_starts(run, place):
    cfg, folder = run
    job._check_folder(cfg)
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).touch()
    with pytest.raises(OSError, match=f"Results cannot be written to .*{place}, which is no folder"):
        job._check_folder(cfg)


def test_an_evaluation_of_nothing_is_refused():
    opts = ["DATASETS.TEST", "()", "MODEL.WEIGHTS", "w.pth"]
    args = argparse.Namespace(config_file="configs/mini/possam.yaml", opts=opts, eval_only=True, resume=False)
    with pytest.raises(ValueError, match="--eval-only has nothing to evaluate: DATASETS.TEST is empty"):
        job._read(args)


def test_resume_without_effect_is_told(run, monkeypatch, caplog):
    cfg, _ = run
    cfg.MODEL.WEIGHTS = "w.pth"
    for name in ("set_up", "_evaluate", "_show", "prepare_datasets"):
        monkeypatch.setattr(job, name, lambda *_, **__: None)
    for resume in (False, True):
        job._work(cfg, argparse.Namespace(eval_only=True, resume=resume))
        assert ("--resume has no effect with --eval-only: MODEL.WEIGHTS w.pth" in caplog.text) is resume
