"""Labels lie on their segments or have a line to them, inside the picture, and never on each other."""

import numpy as np
import pytest

from possam.visualize.layout import Layout


def layout_of(index):
    boxes = []
    for i in range(1, index.max() + 1):
        y, x = np.nonzero(index == i)
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    return Layout(index, boxes)


def apart(a, b):
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_label_goes_to_the_middle_of_its_segment():
    index = np.zeros((100, 200), np.int32)
    index[20:80, 40:160] = 1
    place = layout_of(index).place_on(0, (40, 10))
    left, top, right, bottom = place.box
    assert (right - left, bottom - top) == (40, 10) and place.line is None
    assert abs((left + right) / 2 - 100) < 32 and abs((top + bottom) / 2 - 50) < 4


def test_a_ring_is_named_on_the_ring():
    y, x = np.mgrid[:200, :200]
    index = (np.abs(np.hypot(y - 100, x - 100) - 70) < 15).astype(np.int32)
    left, top, right, bottom = layout_of(index).place_on(0, (24, 12)).box
    assert index[top:bottom, left:right].mean() > 0.9


def test_a_label_may_stick_out_a_little_but_not_more():
    index = np.zeros((60, 60), np.int32)
    index[20:40, 20:40] = 1
    assert layout_of(index).place_on(0, (30, 10)) is not None
    assert layout_of(index).place_on(0, (36, 10)) is None
    assert layout_of(index).place_on(0, (70, 10)) is None


def test_sticking_out_it_hides_the_large_neighbor_not_the_small_one():
    index = np.full((60, 90), 2, np.int32)
    index[25:35, 30:60] = 1
    index[20:40, 60:70] = 3
    left, _, right, _ = layout_of(index).place_on(0, (40, 8)).box
    assert right <= 60 and left < 30


def test_a_label_beside_its_segment_has_a_line_to_it():
    index = np.ones((100, 200), np.int32)
    index[50:54, 100:104] = 2
    place = layout_of(index).place_beside(1, (40, 12))
    left, top, right, bottom = place.box
    (x, y), (end_x, end_y) = place.line
    assert index[y, x] == 2
    assert left <= end_x <= right and top <= end_y <= bottom
    assert not (index[top:bottom, left:right] == 2).any()
    assert 0.4 * 12 <= np.hypot(end_x - x, end_y - y) <= 3 * 12


def test_places_and_lines_never_meet():
    rng = np.random.default_rng(0)
    index = np.zeros((240, 320), np.int32)
    for i in range(60):
        y, x = rng.integers(0, 236), rng.integers(0, 316)
        index[y : y + 4, x : x + 4] = i + 1
    index = np.unique(index, return_inverse=True)[1].reshape(index.shape).astype(np.int32)
    layout = layout_of(index)
    places = [layout.place_beside(i, (34, 12)) for i in range(index.max())]
    kept = [place for place in places if place is not None]
    assert 25 < len(kept) < 60
    for i, a in enumerate(kept):
        left, top, right, bottom = a.box
        assert left >= 0 and top >= 0 and right <= 320 and bottom <= 240
        for b in kept[:i]:
            assert apart(a.box, b.box)
            (x, y), (end_x, end_y) = b.line
            for share in np.linspace(0.1, 0.9, 9):
                at = (x + share * (end_x - x), y + share * (end_y - y))
                assert not (left < at[0] < right - 1 and top < at[1] < bottom - 1)


def test_no_room_at_all():
    index = np.ones((10, 30), np.int32)
    layout = layout_of(index)
    assert layout.place_beside(0, (12, 11)) is None and layout.place_on(0, (12, 11)) is None
    assert layout.place_on(0, (28, 8)) is not None
    assert layout.place_on(0, (28, 8)) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_maps_thinner_than_a_label(size):
    layout = layout_of(np.ones(size, np.int32))
    assert layout.place_on(0, (5, 5)) is None and layout.place_beside(0, (5, 5)) is None
