"""Masks of annotation files: pycocotools' own are read unchanged, and what it would believe wrongly is refused."""

import numpy as np
import pytest
from pycocotools import mask as mask_coder

from possam.data.run_lengths import check_mask, to_run_lengths

SIZE = (40, 30)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_pycocotools_own_masks_are_read(density):
    mask = np.asfortranarray(np.random.default_rng(3).random(SIZE) < density, dtype=np.uint8)
    mask[5:30, 3:20] |= density > 0
    run = mask_coder.encode(mask)
    for counts in (run["counts"], run["counts"].decode()):
        assert to_run_lengths({"size": list(SIZE), "counts": counts}, SIZE, source="a") == run


def test_a_long_run_is_read():
    mask = np.zeros((3000, 3000), np.uint8, order="F")
    mask[1, 2] = mask[2999, 2998] = 1
    run = mask_coder.encode(mask)
    assert to_run_lengths(run, (3000, 3000), source="a") == run


@pytest.mark.parametrize(
    "counts",
    [
        [], [10], [1200, 1], [10, -1, 1191], [1200.0], ["1200"], [True, 1199], [2**32 + 1200], [2**70], [float("nan")],
        "", b"", "0", "zzzz", "\ud800", b"\xff\xff", "P", "`1", "oooooooooooo0", None, 3, {"a": 1},
    ],
)  # fmt: skip
def test_runs_that_do_not_fill_the_mask_are_refused(counts):
    """pycocotools decodes too few of them into whatever lay in memory."""
    with pytest.raises(ValueError, match="the runs of a mask of image 4"):
        to_run_lengths({"size": list(SIZE), "counts": counts}, SIZE, source="image 4")


@pytest.mark.parametrize("size", [None, [], [30, 40], [40, 30, 1], "x", ["40", "30"]])
def test_another_size_is_refused(size):
    with pytest.raises(ValueError, match="a run-length mask of image 4 is"):
        to_run_lengths({"size": size, "counts": [1200]}, SIZE, source="image 4")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e300, 1e9, 2**31, 10**400, None, "1", [1], True])
def test_corners_that_are_no_places_are_refused(number):
    """pycocotools takes all memory for a far corner, or ends the process."""
    with pytest.raises(ValueError, match="a polygon of image 4 has corners"):
        to_run_lengths([[1, 1, 5, 1, 5, number]], SIZE, source="image 4")


def test_corners_a_little_outside_are_taken():
    run = to_run_lengths([[-5, -5, 35, -5, 35, 45, -5, 45]], SIZE, source="image 4")
    assert mask_coder.area(run) == SIZE[0] * SIZE[1]


BOX = [3, 4, 12, 20]
OTHER_THINGS = {
    "pairs": [[3, 4], [15, 4], [15, 24], [3, 24]],
    "three pairs": [[3, 4], [15, 4], [15, 24]],
    "pairs in a polygon": [[[3, 4], [15, 4], [15, 24], [3, 24]]],
    "one list": [3, 4, 15, 4, 15, 24, 3, 24],
    "fractions": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.6, 0.1, 0.6]],
    "nothing": [],
    "an empty polygon": [[]],
    "empty polygons": [[], []],
    "two corners": [[3, 4, 15, 24]],
    "one corner thrice": [[3, 4, 3, 4, 3, 4]],
    "a text": "3 4 15 4",
    "objects": [{"x": 3, "y": 4}],
    "null": None,
    "a number": 7,
    "texts": [["3", "4", "15", "4", "15", "24"]],
    "outside": [[31, 41, 40, 41, 40, 50, 31, 50]],
    "elsewhere": [[16, 25, 28, 25, 28, 39, 16, 39]],
    "y first": [[4, 3, 24, 3, 24, 9, 4, 9]],
    "half the size": [[1.5, 2, 7.5, 2, 7.5, 12, 1.5, 12]],
    "no run": {"size": list(SIZE), "counts": [1200]},
    "runs elsewhere": {"size": list(SIZE), "counts": [1199, 1]},
    "no size": {"counts": [0, 1200]},
    "no counts": {"size": list(SIZE)},
}


@pytest.mark.parametrize("what", OTHER_THINGS)
def test_masks_of_nothing_or_of_something_else_are_refused(what):
    with pytest.raises(ValueError, match="image 4") as caught:
        check_mask(OTHER_THINGS[what], SIZE, box=BOX, source="annotation 2 of image 4")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("mask", "box", "own"),
    [
        ([[3, 4, 15, 4, 15, 24, 3, 24]], BOX, (3, 4, 12, 20)),
        ([[3, 4, 15, 4, 15, 24, 3, 24], []], BOX, (3, 4, 12, 20)),
        ([[3, 4, 9, 4, 9, 9], [10, 20, 15, 24, 12, 24, 9, 9]], BOX, (3, 4, 12, 20)),
        ([[-9, -9, 9, -9, 9, 9]], [-9, -9, 18, 18], (0, 0, 9, 9)),
        ([[3, 4, 18, 4, 18, 4]], [3, 4, 15, 0], (3, 4, 15, 0)),  # COCO has boxes without height
        ([[0.2, 0.2, 1.6, 0.2, 1.6, 1.4]], [0.2, 0.2, 1.4, 1.2], (0.2, 0.2, 1.4, 1.2)),
        ({"size": list(SIZE), "counts": [40, 40, 1120]}, [1, 0, 1, 40], (1, 0, 1, 40)),
        ([[3, 4, 15, 4, 15, 24, 3, 24]], [0, 0, 0, 0], (3, 4, 12, 20)),  # a placeholder, which contradicts nothing
    ],
)
def test_masks_that_reach_over_their_box_are_taken(mask, box, own):
    assert check_mask(mask, SIZE, box=box, source="a") == pytest.approx(own)
