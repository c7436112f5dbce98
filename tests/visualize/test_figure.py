import numpy as np
import pytest
from PIL import Image

from possam.visualize import draw_panoptic, save_picture, side_by_side
from possam.visualize.figure import legend_rows
from possam.visualize.legend import draw_legend
from possam.visualize.sizes import enlarge_image


def test_figure_has_all_panels(scene, names):
    image, ids, infos = scene(100, 120)
    scored = [{**info, "score": 0.75} for info in infos]
    with_truth = side_by_side(image, (ids, infos), (ids, scored), names, title="title")
    without = side_by_side(image, None, (ids, scored), names)
    assert with_truth.shape[1] - without.shape[1] == 480 + 12
    assert with_truth.shape[0] > without.shape[0] > 400
    # The image stands first, unchanged, and the prediction is drawn as it is alone.
    top = without.shape[0] - 12 - 400
    np.testing.assert_array_equal(without[top : top + 400, 12:492], enlarge_image(image, 4))
    np.testing.assert_array_equal(without[top : top + 400, 504:984], draw_panoptic(image, ids, scored, names))


def test_legend_lists_found_and_missed_classes(names):
    prediction = [
        {"id": 1, "category_id": 0, "score": 0.5},
        {"id": 2, "category_id": 1, "score": 0.875},
        {"id": 3, "category_id": 0, "score": 0.25},
    ]
    truth = [{"id": 1, "category_id": 2}, {"id": 2, "category_id": 1}, {"id": 3, "category_id": 2}]
    ids = np.zeros((2, 2), np.int64)
    rows = legend_rows((ids, truth), (ids, prediction), names, [True, False, False, True])
    assert [(row.text, row.note, row.filled) for row in rows] == [
        ("sea (unseen)", "0.88", True),
        ("star x2", "0.25 to 0.50", True),
        ("a rather long name x2 (unseen)", "not found", False),
    ]
    rows = legend_rows(None, (ids, [{"id": 1, "category_id": 3}]), names, None)
    assert [(row.text, row.note) for row in rows] == [("étoile", "")]
    many = rows * 50
    assert draw_legend(many, 240, 14).width == 5 * draw_legend(rows, 240, 14).width


def test_nothing_predicted(scene, names):
    image, ids, _ = scene(50, 50)
    figure = side_by_side(image, None, (np.zeros_like(ids), []), names)
    assert figure.shape[1] > 400


def test_a_long_legend_and_a_long_title_fit():
    image = np.zeros((480, 20, 3), np.uint8)
    figure = side_by_side(image, None, (np.zeros((480, 20), int), []), ["a"], title="words " * 100)
    assert figure.shape[1] < 200
    assert draw_legend([], 10).height == 240


def test_save(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    save_picture(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), picture)
    save_picture(tmp_path / "a.JPG", picture)
    assert Image.open(tmp_path / "a.JPG").format == "JPEG"
    with pytest.raises(ValueError, match="saved as .png, .jpg, .jpeg, but got 'a.gif'"):
        save_picture("a.gif", picture)
