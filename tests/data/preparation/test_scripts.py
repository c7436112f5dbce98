"""The script datasets/prepare.py."""

import os
import subprocess
import sys
from pathlib import Path

from possam.data.preparation import PREPARATIONS

SCRIPTS = Path(__file__).parents[3] / "datasets"


def test_every_preparation_has_its_place_in_the_readme():
    readme = (SCRIPTS / "README.md").read_text(encoding="utf-8")
    for name in PREPARATIONS:
        assert f"possam data prepare {name}\n" in readme, name


def test_the_script_prepares_and_says_what_is_wrong(fresh, tmp_path):
    root = fresh("pascal_voc")

    def call(*words):
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, SCRIPTS / "prepare.py", "pascal_voc", "--processes", "1", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    done = call("--root", root, "--splits", "val")
    assert done.returncode == 0, done.stderr
    assert "pascal_voc: wrote 6 files" in done.stdout
    failed = call("--root", tmp_path / "nowhere")
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr and "VOCtrainval_11-May-2012.tar" in failed.stderr
