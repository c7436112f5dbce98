"""Image transforms of the built-in runtime, and their agreement with Detectron2's."""

import importlib

import numpy as np
import pytest

import possam.d2
from possam.d2._runtime.data import transforms as T


def picture(height=40, width=60, dtype=np.uint8):
    return (np.random.RandomState(0).rand(height, width, 3) * 255).astype(dtype)


def test_boxes_and_labels_follow_the_image():
    image = np.zeros((20, 30, 3), dtype=np.float32)
    image[4:8, 6:15] = 1
    labels = image[:, :, 0].astype(np.uint8)
    inputs = T.AugInput(image, boxes=np.array([[6.0, 4.0, 15.0, 8.0]]), sem_seg=labels)
    T.AugmentationList([T.RandomFlip(prob=1.0), T.Resize((40, 60)), T.FixedSizeCrop((64, 64))])(inputs)
    assert inputs.image.shape == (64, 64, 3) and inputs.sem_seg.shape == (64, 64)
    x0, y0, x1, y1 = inputs.boxes[0].astype(int)
    assert (x0, y0, x1, y1) == (30, 8, 48, 16)
    rows, columns = np.nonzero(inputs.sem_seg == 1)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)
    assert (inputs.sem_seg[40:] == 255).all() and (inputs.image[40:] == 128).all()


def test_the_shortest_edge_is_met_unless_the_longest_would_be_too_long():
    shape = T.ResizeShortestEdge.get_output_shape
    assert shape(100, 200, 50, 1000) == (50, 100)
    assert shape(200, 100, 50, 80) == (80, 40)
    image = T.AugInput(picture())
    T.ResizeShortestEdge([20], 1000, "choice")(image)
    assert image.image.shape == (20, 30, 3)


def test_labels_are_never_blended():
    labels = np.random.RandomState(0).choice([3, 200], (17, 23)).astype(np.uint8)
    assert set(np.unique(T.ResizeTransform(17, 23, 40, 31).apply_segmentation(labels))) == {3, 200}


@pytest.mark.parametrize("kind", ["relative", "relative_range", "absolute", "absolute_range"])
def test_crops_stay_inside(kind):
    size = (0.5, 0.5) if kind.startswith("relative") else (10, 50)
    for _ in range(20):
        crop = T.RandomCrop(kind, size).get_transform(picture())
        assert crop.x0 >= 0 and crop.y0 >= 0 and crop.x0 + crop.w <= 60 and crop.y0 + crop.h <= 40


def test_bad_inputs_are_refused():
    with pytest.raises(AssertionError, match="uint8 or float"):
        T.AugInput(np.zeros((4, 4), dtype=np.int64))
    with pytest.raises(ValueError, match="choose one"):
        T.RandomFlip(horizontal=True, vertical=True)
    with pytest.raises(AssertionError, match="crop_type"):
        T.RandomCrop("relativ", (1, 1))


POLICIES = [
    ("FixedSizeCrop", ((32, 80),), {}),
    ("RandomBrightness", (0.5, 1.5), {}),
    ("RandomContrast", (0.5, 1.5), {}),
    ("RandomCrop", ("absolute_range", (10, 30)), {}),
    ("RandomCrop", ("relative_range", (0.3, 0.6)), {}),
    ("RandomFlip", (), {"horizontal": False, "vertical": True}),
    ("RandomLighting", (25.0,), {}),
    ("RandomSaturation", (0.5, 1.5), {}),
    ("Resize", ((33, 44),), {}),
    ("ResizeScale", (0.1, 2.0, 50, 50), {}),
    ("ResizeShortestEdge", ((10, 70), 80), {}),
]


@pytest.mark.skipif(possam.d2.BACKEND != "detectron2", reason="Detectron2 is not installed, or not chosen")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("name", "arguments", "keywords"), POLICIES, ids=lambda value: str(value)[:40])
def test_the_same_seed_gives_the_same_image_on_both_sides(name, arguments, keywords, dtype):
    results = []
    for side in (T, importlib.import_module("detectron2.data.transforms")):
        np.random.seed(7)
        for _ in range(3):
            inputs = side.AugInput(picture(dtype=dtype), boxes=np.array([[3.0, 4.0, 20.0, 30.0]]))
            getattr(side, name)(*arguments, **keywords)(inputs)
            results.append((inputs.image, inputs.boxes))
    for ours, theirs in zip(results[:3], results[3:], strict=True):
        assert np.allclose(ours[0], theirs[0]) and np.allclose(ours[1], theirs[1])
