"""The choice of the backend, each time in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Tells importlib that Detectron2 is not there, whether or not it is installed.
HIDE = "import sys; sys.modules['detectron2'] = None\n"
SHOW = "import possam.d2; print(possam.d2.BACKEND)"


def run(code: str, wish: str | None, *folders: Path) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "POSSAM_D2"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [*folders, REPOSITORY]))
    if wish is not None:
        environment["POSSAM_D2"] = wish
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("wish", [None, "auto", "builtin"])
def test_without_detectron2_the_subset_is_used(wish):
    assert run(HIDE + SHOW, wish).stdout.strip() == "builtin"


def test_without_detectron2_asking_for_it_says_how_to_install_it():
    result = run(HIDE + SHOW, "detectron2")
    assert result.returncode != 0
    assert "ImportError" in result.stderr and "tutorials/install.html" in result.stderr


@pytest.mark.parametrize("wish", ["detectron2", "detectron"])
def test_commands_and_tools_say_it_in_a_sentence(wish):
    """A tool imports nothing of this before it can."""
    for code in (
        "from possam.cli import main; sys.exit(main(['info']))",
        "import runpy; sys.argv[1:] = []; runpy.run_path('tools/train_net.py', run_name='__main__')",
        "import runpy; sys.argv[1:] = ['--config-file', 'a']; runpy.run_path('tools/submit.py', run_name='__main__')",
        "import runpy; sys.argv[1:] = ['--evaluation', 'a']; runpy.run_path('tools/report.py', run_name='__main__')",
        "import runpy; sys.argv[1:] = ['--config-file', 'a', '--output', 'b']; "
        "runpy.run_path('tools/export_pretrained.py', run_name='__main__')",
    ):
        result = run(HIDE + code, wish)
        assert result.returncode == 1, code
        assert result.stderr.startswith("error: POSSAM_D2") and "builtin" in result.stderr, result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr


def test_an_empty_wish_is_none():
    assert run(HIDE + SHOW, "").stdout.strip() == "builtin"


def test_an_unknown_wish_names_the_valid_ones():
    result = run(SHOW, "detectron")
    assert result.returncode != 0
    assert "ValueError" in result.stderr and "auto, detectron2, builtin" in result.stderr


@pytest.mark.parametrize("wish", ["auto", "detectron2"])
def test_a_broken_detectron2_is_an_error_and_not_a_reason_to_fall_back(tmp_path, wish):
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libcudart.so.42 is missing')")
    result = run(SHOW, wish, tmp_path)
    assert result.returncode != 0 and "builtin" not in result.stdout
    assert "ImportError: Detectron2 is installed but cannot be imported" in result.stderr
    assert "libcudart.so.42 is missing" in result.stderr


def test_a_broken_detectron2_is_not_even_looked_at_if_the_subset_is_asked_for(tmp_path):
    (tmp_path / "detectron2.py").write_text("raise OSError")
    assert run(SHOW, "builtin", tmp_path).stdout.strip() == "builtin"


def test_a_working_detectron2_is_used_by_auto(tmp_path):
    (tmp_path / "detectron2").mkdir()
    for name in ("__init__.py", "engine.py"):
        (tmp_path / "detectron2" / name).write_text("")
    assert run(SHOW, None, tmp_path).stdout.strip() == "detectron2"


def test_the_choice_is_logged():
    code = HIDE + "import logging; logging.basicConfig(level=logging.INFO)\nimport possam.d2"
    assert "backend: builtin" in run(code, None).stderr
