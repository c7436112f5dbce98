"""Packages are layers: each imports from lower ones only, and nothing but the entry points lies beside them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "possam"
LAYERS = (
    "utils d2 layers vocabulary encoders backbones necks decoders classifiers losses inference config models data "
    "evaluation engine shipped visualize predict report export demo cli"
).split()


def imported_packages(path):
    """Packages of possam that a file imports when it is imported itself: imports in functions are left out."""
    names = set()
    pending = list(ast.parse(path.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.If | ast.Try | ast.ClassDef):
            pending += ast.iter_child_nodes(node)
    return {name.split(".")[1] for name in names if name.startswith("possam.")}


def test_every_package_is_a_layer():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(LAYERS)
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("package", LAYERS)
def test_imports_go_down(package):
    allowed = LAYERS[: LAYERS.index(package) + 1]
    upwards = {str(path): found for path in (ROOT / package).rglob("*.py")
               if (found := imported_packages(path).difference(allowed))}  # fmt: skip
    assert not upwards
