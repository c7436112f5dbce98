"""What can be known of the Dockerfile without Docker."""

import fnmatch
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings the same
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions():
    """(instruction, rest) a line, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.M).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def values(name):
    return [rest for instruction, rest in instructions() if instruction == name]


def is_ignored(path):
    """Docker's rule: the last pattern that matches decides, and ! takes a file back."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        parts = Path(path).parts
        anywhere = pattern.startswith("**/")
        if any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in (parts if anywhere else parts[:1])):
            ignored = not line.startswith("!")
    return ignored


def copied():
    return [source for rest in values("COPY") for source in shlex.split(rest)[:-1]]


def test_what_is_copied_is_there_and_not_ignored():
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert not is_ignored(source), source
    for path in ("output/model.pth", ".git/config", "datasets/README.md", "possam/__pycache__/a.pyc", "weights/x"):
        assert is_ignored(path), path


def test_what_the_package_is_built_of_is_copied():
    """`pip install .` reads these while it builds."""
    dynamic = PYPROJECT["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]
    needed = [PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"], *dynamic]
    assert {*needed, "setup.py", "configs", "possam"} <= set(copied())


def test_torch_is_installed_by_the_requirements_own_ranges():
    (command,) = [command for command in values("RUN") if "--index-url" in command]
    (inner,) = re.findall(r"\$\((.+)\)", command)
    lines = subprocess.run(["sh", "-c", inner], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    names = [re.split(r"[<>=]", line)[0] for line in lines]
    assert names == ["torch", "torchvision"] and all(line in (ROOT / "requirements.txt").read_text() for line in lines)


@pytest.mark.parametrize("index", ["", "https://a.b/whl/cpu"])
def test_an_empty_index_is_pips_own(tmp_path, index):
    (command,) = [command for command in values("RUN") if "--index-url" in command]
    (tmp_path / "pip").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "pip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TORCH_INDEX": index}
    done = subprocess.run(
        ["/bin/sh", "-ec", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    words = done.stdout.split()
    assert words[:-2] == (["install", "--index-url", index] if index else ["install"])
    assert [re.split(r"[<>=]", word)[0] for word in words[-2:]] == ["torch", "torchvision"]


@pytest.mark.parametrize(
    "index, compiler", [("", True), ("https://a.b/whl/cu130", True), ("https://a.b/whl/cpu", False)]
)
def test_a_compiler_comes_with_wheels_for_gpus_alone(tmp_path, index, compiler):
    (command,) = [command for command in values("RUN") if "gcc" in command]
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n')
    (tmp_path / "apt-get").chmod(0o755)
    (tmp_path / "rm").symlink_to("/bin/true")
    subprocess.run(["/bin/sh", "-ec", command], env={"PATH": str(tmp_path), "TORCH_INDEX": index}, check=True)
    asked = tmp_path / "asked"
    assert ("gcc" in asked.read_text(encoding="utf-8") if asked.is_file() else False) == compiler


def test_the_base_runs_the_package_and_the_command_is_its_own():
    version = re.search(r"python:(\d+)\.(\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    least = re.search(r">=(\d+)\.(\d+)", PYPROJECT["project"]["requires-python"])
    assert tuple(map(int, version.groups())) >= tuple(map(int, least.groups()))
    assert values("ENTRYPOINT") == ['["possam"]'] and "possam" in PYPROJECT["project"]["scripts"]
    # Not as root, and in a folder that a person may mount.
    assert values("USER") == ["possam"] and values("WORKDIR")[-1] == "/data"


def test_extras_that_are_installed_exist():
    for extra in re.findall(r"'\.\[(\w+)\]'", " ".join(values("RUN"))):
        if extra not in PYPROJECT["project"]["optional-dependencies"]:
            pytest.fail(f"pyproject.toml has no extra {extra!r}")


def test_every_file_of_the_package_is_installed():
    """Not only in a checkout: what is no Python is carried along by name."""
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["possam"]
    carried = {path for pattern in patterns for path in (ROOT / "possam").glob(pattern)}
    left = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "possam").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path not in carried
    ]
    assert not left, f"add them to [tool.setuptools.package-data]: {left}"
