"""Helpers of the built-in runtime."""

import random

import numpy as np
import pytest
import torch

from possam.d2._runtime.utils.collect_env import collect_env_info
from possam.d2._runtime.utils.env import seed_all_rng
from possam.d2._runtime.utils.events import EventStorage
from possam.d2._runtime.utils.logger import runtime_logger, setup_logger


def test_one_seed_for_all_libraries():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_all_rng(11)
    first = draw()
    seed_all_rng(11)
    assert draw() == first
    seed_all_rng(None)
    assert draw() != first


def test_loggers_carry_detectron2s_names():
    assert runtime_logger("possam.d2._runtime.engine.hooks").name == "detectron2.engine.hooks"
    assert runtime_logger("possam.models").name == "possam.models"


def test_every_rank_writes_its_own_file_once(tmp_path):
    for rank in (0, 1):
        for _ in range(2):  # a second setup adds nothing
            logger = setup_logger(str(tmp_path), rank, name=f"d2_test_{rank}", configure_stdout=False)
        logger.warning("hello")
    assert (tmp_path / "log.txt").read_text().count("hello") == 1
    assert "d2_test_1 WARNING: hello" in (tmp_path / "log.txt.rank1").read_text()


def test_environment_report_names_the_libraries():
    report = collect_env_info()
    assert torch.__version__ in report and "fvcore" in report


def test_a_scalar_keeps_its_hint_and_its_window():
    storage = EventStorage()
    for step in range(10):
        storage.put_scalar("loss", step)
        storage.put_scalar("lr", step, smoothing_hint=False)
        storage.step()
    assert storage.latest_with_smoothing_hint(4) == {"loss": (7.5, 9), "lr": (9.0, 9)}
    with pytest.raises(AssertionError, match="smoothing_hint"):
        storage.put_scalar("lr", 1.0)
    with pytest.raises(KeyError, match="unknown"):
        storage.history("unknown")
