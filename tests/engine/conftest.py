"""Scenes to train on."""

import pytest

from possam.data.miniature.export import export_split


@pytest.fixture(scope="session")
def few_scenes(tmp_path_factory):
    """A folder with five scenes to train on, so that two images a step end an epoch in the middle of a step."""
    root = tmp_path_factory.mktemp("scenes")
    for split, scenes in {"mini_a_train": 5, "mini_b_selection": 1, "mini_b_report": 1, "mini_b_labels": 3}.items():
        export_split(split, root=root, scenes=scenes)
    return root


@pytest.fixture
def scenes(few_scenes, miniature):
    """`few_scenes`, which the miniature splits are of."""
    miniature(few_scenes)
    return few_scenes
