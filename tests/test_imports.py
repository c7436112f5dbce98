"""What is imported with the package: PyTorch for the Python API, and nothing else that takes seconds."""

import subprocess
import sys

import pytest

SLOW = ("open_clip", "timm", "torchvision", "torch._dynamo", "segment_anything", "scipy", "huggingface_hub", "triton")
UNUSED = ("matplotlib", "pycocotools.coco", "rich", "possam.data.mapper", "possam.data.configured")
"""Of training, evaluation and progress bars alone."""


def imported(code):
    """Modules of a process that runs `code`."""
    code = f"import sys\n{code}\nprint('MODULES', *sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.rpartition("MODULES")[2].split())


def test_the_python_api_imports_pytorch_alone():
    found = imported("from possam import Predictor, Vocabulary, PosSAM")
    assert "torch" in found and "possam.models.possam" in found and not found.intersection((*SLOW, *UNUSED))
    assert not imported("import possam.export").intersection(SLOW)


def test_names_of_possam_data_are_those_it_imports_late():
    from possam import data

    assert sorted(name for names in data._HOMES.values() for name in names) == sorted(data.__all__)
    assert all(hasattr(data, name) for name in data.__all__)


@pytest.mark.parametrize("words", [["weights", "list"], ["--version"]], ids=" ".join)
def test_commands_that_run_nothing_import_no_pytorch(words):
    run = f"from possam.cli import main\ntry:\n    main({words})\nexcept SystemExit:\n    pass"
    found = imported(run)
    assert "possam.cli" in found and not found.intersection({"torch", "numpy", *SLOW})
