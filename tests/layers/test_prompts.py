"""Points and boxes: what is refused, and what becomes of them where the image changes."""

import pickle

import pytest
import torch

from possam.layers.prompts import Prompts

POINTS = Prompts(points=[[[10, 4], [3, 5]], [[7, 8], [0, 0]]], labels=[[1, 0], [1, -1]])
BOXES = Prompts(boxes=[[2, 3, 6, 9]])


def test_what_is_left_out_is_filled_in():
    assert (len(POINTS), len(BOXES)) == (2, 1)
    assert BOXES.points.shape == (1, 0, 2) and BOXES.labels.shape == (1, 0) and BOXES.has_box.tolist() == [True]
    assert POINTS.boxes.tolist() == [[0] * 4] * 2 and POINTS.has_box.tolist() == [False, False]
    assert Prompts(points=[[[1, 2]]]).labels.tolist() == [[1]]
    assert POINTS.points.dtype == POINTS.boxes.dtype == torch.float32 and POINTS.labels.dtype == torch.int64
    both = Prompts(points=[[[3, 4]]], labels=[[0]], boxes=[[2, 3, 6, 9]])
    assert both.has_box.item() and both.labels.item() == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "need points or boxes, but got neither"),
        ({"labels": [[1]], "boxes": [[0, 0, 1, 1]]}, "labels of points are given, but no points"),
        ({"points": [[[1, 2]]], "has_box": [True]}, "says that there are boxes, but none are given"),
        ({"points": [[1, 2]]}, r"a single prompt is a list of one, such as points=\[\[\[x, y\]\]\]"),
        ({"points": [[[1, 2]]], "labels": [[1, 0]]}, "expected points N×P×2, labels N×P.*got shapes 1×1×2, 1×2"),
        ({"points": [[[1, 2]]], "boxes": [[0, 0, 1, 1]] * 2}, "expected points"),
        ({"boxes": [0, 0, 1, 1]}, "expected points"),
        ({"points": [[[1, 2]]], "labels": [[2]]}, r"-1 \(none\), but got \[2\]"),
        ({"points": [[[1, float("nan")]]]}, "points must be finite"),
        ({"boxes": [[0, 0, 1, float("inf")]]}, "boxes must be finite"),
        ({"boxes": [[0, 0, 1, 1], [5, 1, 2, 3]]}, r"x0 < x1, y0 < y1.*\[1: \[5.0, 1.0, 2.0, 3.0\]\]"),
        ({"boxes": [[3, 1, 3, 4]]}, "x0 < x1, y0 < y1"),
        ({"points": [[[1, 2]]], "labels": [[0]]}, r"needs a box or a point on the object \(label 1\)"),
        ({"points": [[[1, 2]]], "labels": [[-1]]}, "needs a box or a point on the object"),
        ({"points": [[[30, 2]]], "size": (20, 30)}, r"inside the image of 30×20 pixels \(width×height\)"),
        ({"points": [[[-1, 2]]], "size": (20, 30)}, "points .* must be inside"),
        ({"boxes": [[0, 0, 30, 21]], "size": (20, 30)}, "boxes .* must be inside"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        Prompts(**given)


def test_the_border_is_inside():
    Prompts(points=[[[29, 19]]], boxes=[[0, 0, 30, 20]], size=(20, 30))
    Prompts(points=[[[5, 5], [-9, 99]]], labels=[[1, -1]], size=(20, 30))  # padding lies nowhere


def test_prompts_follow_the_image():
    bigger = POINTS.resize(2, 3)
    assert bigger.points.tolist() == [[[20, 12], [6, 15]], [[14, 24], [0, 0]]]
    assert BOXES.resize(0.5, 2).boxes.tolist() == [[1, 6, 3, 18]]
    mirrored = POINTS.hflip(12)
    assert mirrored.points.tolist() == [[[1, 4], [8, 5]], [[4, 8], [0, 0]]]
    assert BOXES.hflip(12).boxes.tolist() == [[6, 3, 10, 9]]
    image = torch.zeros(10, 12)
    image[4, 10] = 1
    image[3:9, 2:6] = 2
    turned = image.flip(-1)
    x, y = mirrored.points[0, 0].long().tolist()
    assert turned[y, x] == 1
    x0, y0, x1, y1 = BOXES.hflip(12).boxes[0].long().tolist()
    assert (turned[y0:y1, x0:x1] == 2).all() and (turned == 2).sum() == (y1 - y0) * (x1 - x0)


def test_prompts_are_joined_and_cut():
    joined = Prompts.cat([BOXES, POINTS])
    assert joined.labels.tolist() == [[-1, -1], [1, 0], [1, -1]] and joined.has_box.tolist() == [True, False, False]
    assert joined.boxes[0].tolist() == [2, 3, 6, 9] and torch.equal(joined.points[1:], POINTS.points)
    chunks = list(joined.chunks(2))
    assert [len(chunk) for chunk in chunks] == [2, 1]
    again = Prompts.cat(chunks)
    for name in ("points", "labels", "boxes", "has_box"):
        assert torch.equal(getattr(again, name), getattr(joined, name)), name
        assert torch.equal(getattr(joined[torch.tensor([2, 0])], name), getattr(joined, name)[[2, 0]]), name


def test_prompts_can_be_sent():
    copy = pickle.loads(pickle.dumps(POINTS)).to("cpu")
    assert torch.equal(copy.points, POINTS.points) and copy.device.type == "cpu"
