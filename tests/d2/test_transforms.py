"""Image transforms of the built-in runtime, and their agreement with Detectron2's."""

import importlib

import numpy as np
import pytest

import possam.d2
from possam.d2._runtime.data import transforms as T


def picture(height=40, width=60, dtype=np.uint8):
    return (np.random.RandomState(0).rand(height, width, 3) * 255).astype(dtype)


def test_labels_follow_the_image():
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    image[4:8, 6:15] = 1
    inputs = T.AugInput(image)
    steps = [T.RandomFlip(prob=1.0), T.ResizeTransform(20, 30, 40, 60), T.FixedSizeCrop((64, 64))]
    labels = T.AugmentationList(steps)(inputs).apply_segmentation(image[:, :, 0].copy())
    assert inputs.image.shape == (64, 64, 3) and labels.shape == (64, 64)
    rows, columns = np.nonzero(labels == 1)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (30, 8, 48, 16)
    assert (labels[40:] == 255).all() and (inputs.image[40:] == 128).all()


def test_labels_are_never_blended():
    labels = np.random.RandomState(0).choice([3, 200], (17, 23)).astype(np.uint8)
    assert set(np.unique(T.ResizeTransform(17, 23, 40, 31).apply_segmentation(labels))) == {3, 200}


def test_bad_inputs_are_refused():
    with pytest.raises(AssertionError, match="uint8 or float"):
        T.AugInput(np.zeros((4, 4), dtype=np.int64))
    with pytest.raises(ValueError, match="choose one"):
        T.RandomFlip(horizontal=True, vertical=True)


POLICIES = [
    ("FixedSizeCrop", ((32, 80),), {}),
    ("RandomFlip", (), {}),
    ("RandomFlip", (), {"horizontal": False, "vertical": True}),
    ("ResizeScale", (0.1, 2.0, 50, 50), {}),
]


@pytest.mark.skipif(possam.d2.BACKEND != "detectron2", reason="Detectron2 is not installed, or not chosen")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("name", "arguments", "keywords"), POLICIES, ids=lambda value: str(value)[:40])
def test_the_same_seed_gives_the_same_image_on_both_sides(name, arguments, keywords, dtype):
    results = []
    for side in (T, importlib.import_module("detectron2.data.transforms")):
        np.random.seed(7)
        for _ in range(3):
            inputs = side.AugInput(picture(dtype=dtype))
            transform = getattr(side, name)(*arguments, **keywords)(inputs)
            results.append((inputs.image, transform.apply_coords(np.array([[3.0, 4.0], [20.0, 30.0]]))))
    for ours, theirs in zip(results[:3], results[3:], strict=True):
        assert np.allclose(ours[0], theirs[0]) and np.allclose(ours[1], theirs[1])
