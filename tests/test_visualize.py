import numpy as np
import pytest
import torch
from PIL import Image

from possam import visualize
from possam.visualize import class_color, draw_panoptic, save_picture, side_by_side

NAMES = ["star", "sea", "a rather long name", "étoile"]


def scene(height=500, width=600):
    image = np.full((height, width, 3), 100, np.uint8)
    ids = np.zeros((height, width), np.int64)
    ids[:, : width // 2] = 70_000
    ids[height // 2 :, width // 2 :] = 9
    return image, ids, [{"id": 70_000, "category_id": 1}, {"id": 9, "category_id": 0}]


def test_colors_belong_to_names():
    assert class_color("Sea ") == class_color("sea")
    # Written down: pictures of earlier runs must stay comparable.
    assert [class_color(name) for name in ("person", "tree")] == [(0, 105, 255), (0, 105, 180)]
    words = [f"name {i}" for i in range(200)]
    assert len({class_color(word) for word in words}) > 20


def test_tint_is_a_mixture_and_the_rest_stays():
    image, ids, infos = scene()
    picture = draw_panoptic(image, ids, infos, NAMES, opacity=0.25, labels=False)
    assert picture.dtype == np.uint8 and picture.shape == image.shape
    expected = np.round(0.75 * 100 + 0.25 * np.array(class_color("sea")))
    np.testing.assert_array_equal(picture[100, 100], expected)
    np.testing.assert_array_equal(picture[400, 500], np.round(75 + 0.25 * np.array(class_color("star"))))
    assert (picture[20:230, 320:590] == 100).all()
    assert (image == 100).all()  # the caller's image is not drawn upon


def test_small_images_are_enlarged_with_their_segments():
    image, ids, infos = scene(40, 60)
    picture = draw_panoptic(image, torch.from_numpy(ids), infos, NAMES, opacity=1.0, labels=False)
    assert picture.shape == (160, 240, 3)
    for y, x in ((5, 5), (20, 12), (35, 50), (38, 3)):
        place = picture[4 * y + 1, 4 * x + 1]
        np.testing.assert_array_equal(place, class_color("sea" if ids[y, x] == 70_000 else "star"))
    assert draw_panoptic(*scene(200, 300)[:2], infos, NAMES).shape == (400, 600, 3)


def test_one_pixel_survives_enlargement():
    index = np.zeros((9, 9), np.int64)
    index[4, 4] = 3
    large = visualize._enlarge_index(index, 4)
    assert (large[17:19, 17:19] == 3).all()
    assert 4 <= (large == 3).sum() <= 32


def written_boxes(monkeypatch, *arguments):
    boxes = []
    text = visualize.ImageDraw.ImageDraw.text

    def record(self, xy, words, **keywords):
        font, stroke = keywords["font"], keywords.get("stroke_width", 0)
        boxes.append((words, self.textbbox(xy, words, font=font, stroke_width=stroke)))
        return text(self, xy, words, **keywords)

    monkeypatch.setattr(visualize.ImageDraw.ImageDraw, "text", record)
    draw_panoptic(*arguments)
    return dict(boxes)


def test_names_stand_inside_their_segments_and_apart(monkeypatch):
    image, ids, infos = scene()
    ids[200:300, 100:250] = 5
    infos.append({"id": 5, "category_id": 2, "iscrowd": 1})
    boxes = written_boxes(monkeypatch, image, ids, infos, NAMES)
    assert set(boxes) == {"sea", "star", "a rather long name (crowd)"}
    for name, segment in (("sea", 70_000), ("star", 9)):
        left, top, right, bottom = map(int, boxes[name])
        assert (ids[top:bottom, left:right] == segment).mean() > 0.95
    rectangles = list(boxes.values())
    for i, a in enumerate(rectangles):
        for b in rectangles[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_names_stay_in_the_picture(monkeypatch):
    image, ids, _ = scene()
    ids[:] = 0
    ids[0:4, 0:4] = 1
    ids[-3:, -3:] = 2
    infos = [{"id": 1, "category_id": 2}, {"id": 2, "category_id": 3}]
    for left, top, right, bottom in written_boxes(monkeypatch, image, ids, infos, NAMES).values():
        assert left >= -1 and top >= -1 and right <= 601 and bottom <= 501


def test_ring_is_named_on_the_ring():
    y, x = np.mgrid[:200, :200]
    ring = np.abs(np.hypot(y - 100, x - 100) - 70) < 15
    places = list(visualize._places(ring))
    assert len(places) > 2 and all(ring[y, x] for x, y in places)
    assert list(visualize._places(np.zeros((5, 5), bool))) == []


def test_figure_has_all_panels():
    image, ids, infos = scene(100, 120)
    scored = [{**info, "score": 0.75} for info in infos]
    with_truth = side_by_side(image, (ids, infos), (ids, scored), NAMES, title="title")
    without = side_by_side(image, None, (ids, scored), NAMES)
    assert with_truth.shape[1] - without.shape[1] == 480 + 12
    assert with_truth.shape[0] > without.shape[0] > 400
    # The image stands first, unchanged, and the prediction is drawn as it is alone.
    top = without.shape[0] - 12 - 400
    np.testing.assert_array_equal(without[top : top + 400, 12:492], visualize._enlarge(image, 4))
    np.testing.assert_array_equal(without[top : top + 400, 504:984], draw_panoptic(image, ids, scored, NAMES))


def test_legend_lists_found_and_missed_classes():
    prediction = [
        {"id": 1, "category_id": 0, "score": 0.5},
        {"id": 2, "category_id": 1, "score": 0.875},
        {"id": 3, "category_id": 0, "score": 0.25},
    ]
    truth = [{"id": 1, "category_id": 2}, {"id": 2, "category_id": 1}, {"id": 3, "category_id": 2}]
    ids = np.zeros((2, 2), np.int64)
    rows = visualize._legend_rows((ids, truth), (ids, prediction), NAMES, [True, False, False, True])
    assert [(row.text, row.note, row.found) for row in rows] == [
        ("sea (unseen)", "0.88", True),
        ("star x2", "0.25 to 0.50", True),
        ("a rather long name x2 (unseen)", "not found", False),
    ]
    rows = visualize._legend_rows(None, (ids, [{"id": 1, "category_id": 3}]), NAMES, None)
    assert [(row.text, row.note) for row in rows] == [("étoile", "")]
    many = rows * 40
    assert visualize._legend(many, 200, 14).width == 5 * visualize._legend(rows, 200, 14).width


def test_nothing_predicted():
    image, ids, _ = scene(50, 50)
    figure = side_by_side(image, None, (np.zeros_like(ids), []), NAMES)
    assert figure.shape[1] > 400


def test_save(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    save_picture(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), picture)
    save_picture(tmp_path / "a.JPG", picture)
    assert Image.open(tmp_path / "a.JPG").format == "JPEG"
    with pytest.raises(ValueError, match="saved as .png, .jpg, .jpeg, but got 'a.gif'"):
        save_picture("a.gif", picture)


def test_errors():
    image, ids, infos = scene(50, 50)
    with pytest.raises(ValueError, match="image must be H×W×3 uint8"):
        draw_panoptic(image.astype(np.float32), ids, infos, NAMES)
    with pytest.raises(ValueError, match=r"shape \(25, 50\), but the image is \(50, 50\)"):
        draw_panoptic(image, ids[:25], infos, NAMES)
    with pytest.raises(ValueError, match=r"classes \[1\] have no name; 1 names"):
        draw_panoptic(image, ids, infos, NAMES[:1])
    with pytest.raises(ValueError, match="opacity must be in"):
        draw_panoptic(image, ids, infos, NAMES, opacity=2)
