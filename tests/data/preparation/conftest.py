"""What the tests of preparations share: official trees by preparation, and pictures of what lies on the disk."""

import shutil
from pathlib import Path

import pytest

from tests.layouts import LAYOUTS

LAYOUT_OF = {
    "coco_stuff": "coco",
    "ade20k": "ade20k",
    "ade20k_semantic": "ade20k",
    "ade20k_panoptic": "ade20k",
    "ade20k_instance": "ade20k",
    "ade20k_full": "ade20k_full",
    "pascal_context_59": "pascal_context",
    "pascal_context_459": "pascal_context",
    "pascal_voc": "pascal_voc",
    "cityscapes": "cityscapes",
}


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """A function from a preparation's name to its official tree, made once and not to be changed."""
    trees: dict[str, Path] = {}

    def tree(name: str) -> Path:
        layout = LAYOUT_OF[name]
        if layout not in trees:
            trees[layout] = tmp_path_factory.mktemp(layout)
            LAYOUTS[layout](trees[layout], images=2)
        return trees[layout]

    return tree


@pytest.fixture
def fresh(official, tmp_path):
    """A function from a preparation's name to a root of its own with the official tree."""

    def copy(name: str, folder: str = "root") -> Path:
        return Path(shutil.copytree(official(name), tmp_path / folder))

    return copy
