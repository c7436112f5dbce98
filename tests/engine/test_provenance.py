import hashlib
import shutil
import subprocess

import pytest
import torch
import yaml

from possam.d2 import BACKEND
from possam.engine.provenance import git_commit, parameters_sha256, provenance, versions
from possam.utils.files import read_json, write_json


def git(folder, *arguments):
    names = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    return subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_of_a_checkout(tmp_path):
    package = tmp_path / "checkout" / "possam"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert git_commit(package) is None  # no repository
    git(tmp_path / "checkout", "init", "-q")
    assert git_commit(package) is None  # nothing committed
    git(tmp_path / "checkout", "add", "-A")
    git(tmp_path / "checkout", "commit", "-qm", "first")
    commit = git(tmp_path / "checkout", "rev-parse", "HEAD").strip()
    (package / "untracked.txt").write_text("")
    assert len(commit) == 40 and git_commit(package) == commit
    (package / "__init__.py").write_text("changed")
    assert git_commit(package) == f"{commit}-dirty"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_an_installed_package_has_no_commit(tmp_path):
    """It lies in a virtual environment inside somebody else's repository."""
    package = tmp_path / "venv" / "possam"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "theirs.txt").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "theirs.txt")
    git(tmp_path, "commit", "-qm", "theirs")
    assert git_commit(package) is None
    git(tmp_path, "add", "-A")  # a copy that they keep under version control
    git(tmp_path, "commit", "-qm", "vendored")
    assert git_commit(package) is None


def test_parameters_are_told_apart():
    model = torch.nn.Linear(2, 2)
    before = parameters_sha256(model)
    assert before == parameters_sha256(model) and len(before) == 64
    with torch.no_grad():
        model.weight[0, 0] += 1e-6
    assert parameters_sha256(model) != before


def test_versions():
    found = versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert set(found) == {
        "possam",
        "python",
        "detectron2",
        "torch",
        "torchvision",
        "open_clip",
        "numpy",
        "pycocotools",
        "faster-coco-eval",
    }
    assert (found["detectron2"] == "builtin") == (BACKEND == "builtin")


def test_everything_is_told_and_fits_into_json(mini_config, mini_model, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"any")
    mini_config.MODEL.WEIGHTS = str(weights)
    told = provenance(mini_config, mini_model)
    assert told["checkpoint"] == {"path": str(weights), "sha256": hashlib.sha256(b"any").hexdigest()}
    assert told["ensemble"]["name"] == "mase" and told["ensemble"]["constants"]["RULE"] == "posterior"
    assert told["frozen"]["sam"] == {"name": "mini", "fingerprint": mini_model.sam.fingerprint}
    assert told["frozen"]["clip"]["fingerprint"] == mini_model.clip.fingerprint
    assert told["config"] == yaml.safe_load(mini_config.dump()) and told["config"]["MODEL"]["SAM"]["NAME"] == "mini"
    assert told["seed"] == mini_config.SEED and told["date"].endswith("+00:00")
    write_json(tmp_path / "told.json", told)
    assert read_json(tmp_path / "told.json") == told
    mini_config.MODEL.WEIGHTS = ""
    assert provenance(mini_config, mini_model)["checkpoint"] is None
