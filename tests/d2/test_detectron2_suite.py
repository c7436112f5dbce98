"""Detectron2's own tests of the mirrored parts, run against the built-in runtime.

The folder of those tests (``tests`` of a Detectron2 checkout) comes from POSSAM_DETECTRON2_TESTS.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = os.environ.get("POSSAM_DETECTRON2_TESTS", "")

# Those of Detectron2's tests that ask for nothing outside of the subset.
TESTS = {
    "structures/test_instances.py::TestInstances": ["test_int_indexing"],
    "data/test_dataset.py::TestDatasetFromList": ["test_using_lazy_path"],
    "data/test_sampler.py::TestInferenceSampler": ["test_local_indices"],
    "data/test_transforms.py::TestTransforms": ["test_resize_transform"],
    "config/test_yacs_config.py::TestConfigurable": [
        "testBadClass",
        "testInitWithArgs",
        "testInitWithCfg",
        "testInitWithCfgOverwrite",
        "testInitWithCfgWrongArgs",
        "testPatchedAttr",
    ],
    "utils/test_tensorboardx.py::TestTensorboardXWriter": ["test_no_files_created", "test_single_write"],
    "test_scheduler.py::TestScheduler": [
        "test_warmup_cosine",
        "test_warmup_cosine_end_value",
        "test_warmup_multistep",
        "test_warmup_stepwithfixedgamma",
    ],
}


@pytest.mark.skipif(not FOLDER, reason="POSSAM_DETECTRON2_TESTS does not name the tests of a Detectron2 checkout")
def test_detectron2s_own_tests_pass_on_the_runtime():
    folder = Path(FOLDER).resolve()
    repository = Path(__file__).resolve().parents[2]
    chosen = [f"{place}::{name}" for place, names in TESTS.items() for name in names]
    options = ["-p", "detectron2_alias", "-p", "no:cacheprovider", "--import-mode=importlib", "-q", "-W", "ignore"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(repository), str(Path(__file__).parent)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder), *options, *chosen],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=570,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert f"{len(chosen)} passed" in run.stdout, run.stdout[-2000:]
