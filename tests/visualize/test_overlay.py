import time

import numpy as np
import pytest
import torch

from possam.visualize import class_color, draw_panoptic, overlay
from possam.visualize.colors import contrast
from possam.visualize.labels import label_size


def test_tint_is_a_mixture_and_the_rest_stays(scene, names):
    image, ids, infos = scene()
    picture = draw_panoptic(image, ids, infos, names, opacity=0.25, labels=False)
    assert picture.dtype == np.uint8 and picture.shape == image.shape
    expected = np.round(0.75 * 100 + 0.25 * np.array(class_color(1)))
    np.testing.assert_array_equal(picture[100, 100], expected)
    np.testing.assert_array_equal(picture[400, 500], np.round(75 + 0.25 * np.array(class_color(0))))
    assert (picture[20:230, 320:590] == 100).all()
    assert (image == 100).all()  # the caller's image is not drawn upon


def test_outlines_follow_the_border(scene, names):
    image, ids, infos = scene(1000, 1200)
    picture = draw_panoptic(image, ids, infos, names, opacity=0.0, labels=False)
    drawn = (picture != 100).any(axis=-1)
    y, x = np.mgrid[:1000, :1200]
    near = np.minimum(np.abs(x - 599.5), np.minimum(np.minimum(x, 1199 - x), np.minimum(y, 999 - y))) < 3
    near |= (np.abs(y - 499.5) < 3) & (x >= 597)
    assert drawn[300, 598:602].any() and drawn[498:502, 900].any()
    assert not (drawn & ~near).any()


def test_lines_grow_with_the_picture(scene, names):
    widths = []
    for height, width in ((500, 600), (2000, 2400), (3600, 4320)):
        image, ids, _ = scene(height, width)
        picture = draw_panoptic(image, ids // 70_000, [{"id": 1, "category_id": 1}], names, opacity=0.0, labels=False)
        widths.append((picture[height // 4, width // 4 : 3 * width // 4] != 100).any(axis=-1).sum())
    assert widths[0] <= 3 and 3 <= widths[1] <= 7 and 5 <= widths[2] <= 10
    assert label_size((600, 500)) == 15 and 120 < label_size((8000, 6000)) < 160


def test_small_images_are_enlarged_with_their_segments(scene, names):
    image, ids, infos = scene(40, 60)
    picture = draw_panoptic(image, torch.from_numpy(ids), infos, names, opacity=1.0, labels=False)
    assert picture.shape == (320, 480, 3)
    for y, x in ((5, 5), (20, 12), (35, 50), (37, 5)):
        place = picture[8 * y + 3, 8 * x + 3]
        np.testing.assert_array_equal(place, class_color(1 if ids[y, x] == 70_000 else 0))
    assert draw_panoptic(*scene(200, 300)[:2], infos, names).shape == (400, 600, 3)
    assert draw_panoptic(*scene(24, 24)[:2], infos, names).shape == (480, 480, 3)


@pytest.fixture
def written(monkeypatch):
    """Draws, and returns what was written and what found no room."""

    def draw(*arguments, **options):
        calls = []
        write = overlay.write_labels

        def record(*args, **keywords):
            calls.append(write(*args, **keywords))
            return calls[-1]

        monkeypatch.setattr(overlay, "write_labels", record)
        picture = draw_panoptic(*arguments, **options)
        return picture, *calls[-1]

    return draw


def assert_apart(items):
    for i, a in enumerate(items):
        for b in items[:i]:
            a_box, b_box = a.box, b.box
            assert a_box[2] <= b_box[0] or b_box[2] <= a_box[0] or a_box[3] <= b_box[1] or b_box[3] <= a_box[1], (a, b)


def test_names_stand_inside_their_segments_and_apart(written, scene, names):
    image, ids, infos = scene()
    ids[200:300, 100:280] = 5
    infos.append({"id": 5, "category_id": 2, "iscrowd": 1})
    _, items, homeless = written(image, ids, infos, names)
    assert {item.label.text for item in items} == {"sea", "star", "a rather long name (crowd)"} and not homeless
    segments = {"sea": 70_000, "star": 9, "a rather long name (crowd)": 5}
    for item in items:
        left, top, right, bottom = item.box
        assert item.line is None and (ids[top:bottom, left:right] == segments[item.label.text]).mean() > 0.95
    assert_apart(items)


def test_names_stay_in_the_picture_and_have_a_line_where_the_segment_is_small(written, names):
    image, ids = np.full((500, 600, 3), 100, np.uint8), np.zeros((500, 600), np.int64)
    ids[0:4, 0:4] = 1
    ids[-3:, -3:] = 2
    _, items, _ = written(image, ids, [{"id": 1, "category_id": 2}, {"id": 2, "category_id": 3}], names)
    assert len(items) == 2
    for item in items:
        left, top, right, bottom = item.box
        assert left >= 0 and top >= 0 and right <= 600 and bottom <= 500
        (x, y), _ = item.line
        assert ids[y, x] > 0


def test_long_names_are_cut_to_half_the_width(written):
    image, ids = np.zeros((500, 600, 3), np.uint8), np.ones((500, 600), np.int64)
    _, items, _ = written(image, ids, [{"id": 1, "category_id": 0}], ["a name that goes on " * 20])
    left, _, right, _ = items[0].box
    assert items[0].label.text.endswith("...") and 200 < right - left <= 300
    _, items, _ = written(image[:, :100], ids[:, :100], [{"id": 1, "category_id": 0}], ["a long name " * 2])
    left, _, right, _ = items[0].box
    assert items[0].label.text.endswith("...") and 70 < right - left <= 98


def test_text_is_readable_on_its_box(scene):
    # One class of each of many colors: what is drawn in a chip is its paper, its ink and mixtures of the two.
    image, ids, infos = scene()
    for category in range(1, 133, 12):
        info = {**infos[0], "category_id": category}
        picture = draw_panoptic(image, ids, [info], ["cat"] * 133, opacity=0.0)
        paper = np.array(class_color(category))
        chip = np.argwhere((picture == paper).all(-1))
        (top, left), (bottom, right) = chip.min(0), chip.max(0)
        inner = picture[top : bottom + 1, left : right + 1].reshape(-1, 3).astype(int)
        farthest = inner[np.abs(inner - paper).sum(-1).argmax()]
        assert contrast(tuple(farthest.tolist()), class_color(category)) >= 4.5


def test_in_a_crowd_names_are_left_out_unless_all_are_asked_for(written, crowd):
    image, ids, infos, names = crowd(240, 300, 12, 10)
    picture, items, homeless = written(image, ids, infos, names)
    assert picture.shape == (480, 600, 3)
    assert 10 < len(items) and len(homeless) == len(infos) - len(items)
    assert_apart(items)
    wider, items, homeless = written(image, ids, infos, names, all_labels=True)
    assert wider.shape[1] > 600 + 200
    named = {item.label.segment for item in items if not item.label.text.isdigit()}
    assert named | {label.segment for label in homeless} == set(range(len(infos)))
    numbers = {int(item.label.text): item.label.segment for item in items if item.label.text.isdigit()}
    assert numbers and all(homeless[number - 1].segment == segment for number, segment in numbers.items())
    assert_apart(items)


def test_what_has_not_even_room_for_a_number_is_listed_with_its_place(monkeypatch):
    rows = []
    monkeypatch.setattr(overlay, "draw_legend", lambda given, height: rows.extend(given) or draw(given, height))
    draw = overlay.beside.__globals__["draw_legend"]
    ids = np.arange(1, 9)[None].repeat(500, 0).repeat([1, 1, 1, 1, 1, 1, 1, 493], axis=1).T.copy()
    infos = [{"id": i, "category_id": 0} for i in range(1, 9)]
    image = np.zeros((500, 500, 3), np.uint8)
    picture = draw_panoptic(image[:, :12], ids[:, :12], infos, ["word"], all_labels=True)
    assert picture.shape[1] > 12 and [row.note for row in rows][0] == "at 6, 0"
    assert len(rows) == 8


def test_segments_without_pixels_and_ids_that_are_not_listed(names):
    image, ids = np.zeros((500, 500, 3), np.uint8), np.full((500, 500), 3)
    picture = draw_panoptic(image, ids, [{"id": 8, "category_id": 0}], names, all_labels=True)
    np.testing.assert_array_equal(picture, image)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 2000), (24, 24)])
def test_any_shape(size):
    ids = np.ones(size, np.int32)
    ids.flat[-1] = 2
    infos = [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 1}]
    for all_labels in (False, True):
        picture = draw_panoptic(
            np.zeros((*size, 3), np.uint8), ids, infos, ["a name " * 40, "木 sea"], all_labels=all_labels
        )
        assert picture.shape[0] >= size[0] and picture.shape[1] >= size[1]


def test_a_large_image_takes_seconds():
    rows, columns = np.arange(4000)[:, None] // 1000, np.arange(6000) // 1000
    ids = (rows * 6 + columns + 1).astype(np.int32)
    infos = [{"id": i, "category_id": 0} for i in range(1, 25)]
    started = time.process_time()
    picture = draw_panoptic(np.zeros((4000, 6000, 3), np.uint8), ids, infos, ["name"])
    assert time.process_time() - started < 15
    assert picture.shape == (4000, 6000, 3)


def test_errors(scene, names):
    image, ids, infos = scene(50, 50)
    with pytest.raises(ValueError, match="image must be H×W×3 uint8"):
        draw_panoptic(image.astype(np.float32), ids, infos, names)
    with pytest.raises(ValueError, match=r"shape \(25, 50\), but the image is \(50, 50\)"):
        draw_panoptic(image, ids[:25], infos, names)
    with pytest.raises(ValueError, match=r"classes \[1\] have no name; 1 names"):
        draw_panoptic(image, ids, infos, names[:1])
    with pytest.raises(ValueError, match="opacity must be in"):
        draw_panoptic(image, ids, infos, names, opacity=2)
