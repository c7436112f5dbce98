import dataclasses

import numpy as np
import pytest

from possam.evaluation import ImageCounts
from possam.evaluation.panoptic import PanopticEvaluator
from possam.evaluation.panoptic_quality import PanopticCounts

NAMES = ("a b", "ü", "never")
GROUPS = {"": np.array([True] * 3), "_seen": np.array([True, False, False])}
ROWS = [
    np.array([[0, 0.75, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0.6, 1, 0, 0]]),
    np.zeros((0, 5)),
    np.array([[1, 0, 0, 0, 1.0]]),
]
IDS = (7, "室内/1", 3)


def counts(ids=IDS, rows=ROWS, names=NAMES, groups=GROUPS):
    return ImageCounts.from_images(ids, rows, class_names=names, groups=groups)


def test_fractions_are_those_of_panoptic_quality():
    table = counts().fractions.toarray()
    assert table.shape == (6, 3)
    assert table[:3].tolist() == [[0.75 + 0.6, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert table[3:].tolist() == [[2, 0, 0], [0.5, 0, 0.5], [0, 0, 0]]


def test_what_is_loaded_is_what_was_saved(tmp_path):
    path, empty = tmp_path / "new" / "mase.npz", tmp_path / "empty.npz"
    counts().save(path)
    loaded = ImageCounts.load(path)
    assert (loaded.image_ids, loaded.class_names, list(loaded.groups)) == (IDS, NAMES, ["", "_seen"])
    np.testing.assert_array_equal(loaded.rows, np.concatenate(ROWS))
    assert loaded.images.tolist() == [0, 0, 0, 2] and loaded.groups["_seen"].tolist() == [True, False, False]
    counts((), ()).save(empty)
    assert ImageCounts.load(empty).rows.shape == (0, 5)


def test_names_of_files():
    plain = "mase alpha=0.4 beta=0.4 ü"
    assert ImageCounts.file_name(plain) == f"{plain}.npz"
    odd = ["../a", "a/b", "a%2Fb", "a:b", "a\\b", "/a", "a\nb"]
    names = [ImageCounts.file_name(name) for name in odd]
    assert names[:3] == ["..%2Fa.npz", "a%2Fb.npz", "a%252Fb.npz"] and names[-1] == "a%0Ab.npz"
    assert len(set(names)) == len(names) and not any(set(name) & set("/\\:\n") for name in names)


def test_an_evaluator_keeps_them(world):
    evaluator = PanopticEvaluator(world.name, train_vocabulary=world.train_vocabulary)
    assert evaluator.image_counts is None
    # The results come in the dataset's order, whatever the order of the images.
    evaluator.process(world.inputs()[::-1], world.panoptic_outputs()[::-1])
    expected = evaluator.evaluate()["panoptic_seg"]
    kept = evaluator.image_counts
    assert kept.image_ids == tuple(world.truths) and kept.class_names == tuple(f"class {k}" for k in range(8))
    found = PanopticCounts.total([kept.rows], 8).summary(kept.groups)
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True) and len(found) == 15
    evaluator.reset()
    assert evaluator.image_counts is None and evaluator.image_ids == ()


def test_bad_counts():
    with pytest.raises(ValueError, match="an image id twice"):
        counts(ids=(7, 7, 3))
    with pytest.raises(ValueError, match="counts of 3 images, but 2 image ids"):
        counts(ids=(7, 3))
    with pytest.raises(ValueError, match="classes from 0 to 1, but there are 1"):
        counts(names=("a",), groups={})
    with pytest.raises(ValueError, match=r"groups of 3 classes must have that length, but have {'_st': \(2,\)}"):
        counts(groups={"_st": np.array([True, False])})
    with pytest.raises(ValueError, match="images from 0 to 2, but there are 2"):
        dataclasses.replace(counts(), image_ids=(7, 3))
    with pytest.raises(ValueError, match=r"counts must be 4×5, .* but are \(4, 3\)"):
        dataclasses.replace(counts(), rows=np.zeros((4, 3)))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 no zip"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "mase.npz"
    with pytest.raises(FileNotFoundError, match=r"mase.npz does not exist; give a file of panoptic_counts/"):
        ImageCounts.load(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mase.npz does not hold panoptic counts of images .*; evaluate again"):
        ImageCounts.load(path)


@pytest.mark.parametrize("arrays", [{"x": np.ones(3)}, None])
def test_arrays_of_another_kind_are_refused(tmp_path, arrays):
    path = tmp_path / "mase.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(3)) if arrays is None else np.savez(file, **arrays)
    with pytest.raises(ValueError, match="does not hold panoptic counts"):
        ImageCounts.load(path)
