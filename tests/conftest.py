"""Shared by all tests: one thread, and a PosSAM of the miniature configuration."""

import argparse
import importlib.metadata
import platform
from datetime import timedelta

import pytest
import torch

torch.set_num_threads(1)
# Autograd starts a thread for every device it sees at its first use. Fake tensors, torch.compile's too, make it see
# a GPU that is not there; and a process with such threads cannot be forked.
torch.ones((), requires_grad=True).backward()


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Escape surrogates, of file names that are no text, in what a test printed: processes cannot exchange them."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_terminal_summary(terminalreporter):
    """Say which versions were run."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy", "scipy")}
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    terminalreporter.write_line(f"run with Python {platform.python_version()}, {versions}")


@pytest.fixture
def mini_config(tmp_path):
    """The miniature configuration, writing under the test's own folder."""
    from possam.engine import load_config, prepare_datasets

    places = {"OUTPUT_DIR": "run", "MODEL.TEXT_CACHE": "text", "INPUT.FEATURE_CACHE_DIR": "features"}
    settings = [part for key, name in places.items() for part in (key, str(tmp_path / name))]
    cfg = load_config("configs/mini/possam.yaml", settings)
    prepare_datasets(cfg)
    return cfg


@pytest.fixture
def miniature(monkeypatch):
    """Takes the miniature world's scenes from a folder until the test ends: others expect them elsewhere."""
    from possam.d2.data import DatasetCatalog, MetadataCatalog
    from possam.data.miniature.splits import SPLITS

    yield lambda root: monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    for name in SPLITS:
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.fixture
def mini_model(mini_config):
    """A PosSAM with shipped frozen encoders and untrained heads, the same in every test."""
    from possam.d2.modeling import build_model

    torch.manual_seed(0)
    return build_model(mini_config)


@pytest.fixture
def two_processes(monkeypatch):
    """Calls a function with its arguments in two processes, joined by gloo. They are forked, which spares the imports.

    Raises what the function raised first in either.
    """
    from possam.engine import launch

    if torch.cuda.is_available():
        pytest.skip("forked processes cannot use CUDA")
    monkeypatch.setattr(launch, "START_METHOD", "fork")
    monkeypatch.setattr(launch, "_TIMEOUT", timedelta(minutes=1))  # one that waits in vain fails soon
    many = argparse.Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")

    def call(function, *arguments):
        launch.run(lambda _: function(*arguments), many)

    return call
