import contextlib
import io
from pathlib import Path

import pytest
import torch

from possam.cli import main
from possam.export.formats import OLDEST_TORCH
from possam.shipped import SAMPLE_WORDS


def pytest_collection_modifyitems(items):
    if torch.__version__ < OLDEST_TORCH:
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason=f"exporting needs torch {OLDEST_TORCH}"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The shipped model in both formats, with the sample's words, as the command exports it; and what it printed."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("export") / "made" / "here"
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        assert main(["export", "possam-mini", "--output", str(folder), "--classes", SAMPLE_WORDS]) == 0
    return folder, printed.getvalue()
