"""The notebooks run from top to bottom, and print what is shown in them.

`POSSAM_WRITE_DOCS=1 pytest tests/docs/test_notebooks.py` writes them again with the outputs of this run.
"""

import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (pip install 'possam[dev]')")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (pip install 'possam[dev]')")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (pip install 'possam[dev]')")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 300_000  # bytes of a notebook with its pictures


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell):
    """What a cell printed and gave back as text, and how many pictures."""
    lines, pictures = [], 0
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stdout":
            lines.append(output.text)
        elif output.output_type in ("execute_result", "display_data"):
            if any(kind.startswith("image/") for kind in output.data):
                pictures += 1
            else:
                lines.append(output.data["text/plain"])
    return "".join(lines), pictures


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_gives(path, tmp_path, monkeypatch):
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # of progress bars without ipywidgets
    shown = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    # Raises where a cell does.
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    if os.environ.get("POSSAM_WRITE_DOCS"):
        for cell in code_cells(notebook):
            cell.metadata = {}  # nbclient notes when it ran
            for output in cell.outputs:
                if "image/jpeg" in output.get("data", {}):
                    del output.data["image/png"]  # the same picture, several times as large
        notebook.metadata = shown.metadata
        nbformat.write(notebook, path)
        shown = notebook
    for before, after in zip(code_cells(shown), code_cells(notebook), strict=True):
        assert printed(before) == printed(after), before.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_says_nothing_of_the_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    outputs = "".join(printed(cell)[0] for cell in code_cells(notebook))
    assert outputs and not re.search(r"/(home|root|work|tmp|Users)/", outputs)
    assert not any(output.get("name") == "stderr" for cell in code_cells(notebook) for output in cell.outputs)
    for target in re.findall(r"\]\(([^)#]+)\)", "".join(cell.source for cell in notebook.cells)):
        assert target.startswith("http") or (FOLDER / target).exists(), f"{target} does not exist"
