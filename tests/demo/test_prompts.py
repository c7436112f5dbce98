"""The demo's page for models that take prompts: what its clicks do."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from possam.demo import prompt_page
from possam.demo import prompts as demo_prompts
from possam.demo.page import build_app
from possam.demo.prompt_page import _PromptPage
from possam.demo.prompts import clear, click, find_everything, keep, rename, start
from possam.engine import load_config, prepare_datasets
from possam.predict.predictor import Predictor
from possam.predict.prompting import EverythingOptions
from tests.prompted_models import TinyPrompted

ON, OUTSIDE, BOX = demo_prompts.MODES
WORDS = "striped star, lawn: stuff"
needs_gradio = pytest.mark.skipif(not importlib.util.find_spec("gradio"), reason="Gradio is not installed")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    cfg = load_config("configs/mini/possam.yaml", ["MODEL.TEXT_CACHE", str(tmp_path_factory.mktemp("text"))])
    prepare_datasets(cfg)
    torch.manual_seed(0)
    return Predictor(TinyPrompted.from_config(cfg))


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)


def test_clicks_are_points_of_one_object(predictor, photo):
    encoded = predictor.model.encoded
    clicks = start(predictor, photo)
    assert clicks.picture.shape == (600, 800, 3) and clicks.rows == [] and clicks.result is None
    outside = click(predictor, clicks, 700, 500, OUTSIDE, WORDS)
    assert outside.result is None and tuple(outside.picture[500, 700]) != tuple(photo[500, 700])
    both = click(predictor, outside, 300, 200, ON, WORDS)
    predictor.set_image(photo)
    expected = predictor.prompt(points=[[700, 500], [300, 200]], labels=[0, 1], classes=["striped star", "lawn: stuff"])
    assert np.array_equal(both.result.masks, expected.masks)
    ((number, _, names),) = both.rows
    assert number == "1" and names.startswith(f"{expected.labels[0]} (") and names.count(",") == 1
    assert not np.array_equal(both.picture, photo)
    assert clear(both).result is None and clear(both).points == () and clear(None) is None
    assert predictor.model.encoded == encoded + 2


def test_a_box_is_two_corners_in_any_order(predictor, photo):
    clicks = click(predictor, start(predictor, photo), 400, 90, BOX, "")
    assert clicks.corner == (400, 90) and clicks.result is None
    assert tuple(clicks.picture[90, 400]) == (255, 200, 40)
    drawn = click(predictor, clicks, 100, 300, BOX, "")
    assert drawn.box == (100, 90, 401, 301) and drawn.corner is None and len(drawn.result) == 1
    assert drawn.result.vocabulary == predictor.model.train_vocabulary
    again = click(predictor, drawn, 5, 6, BOX, "")
    assert again.box is None and again.corner == (5, 6) and again.result is None
    whole = click(predictor, click(predictor, clicks, 0, 0, ON, ""), 1, 1, BOX, "")
    assert whole.points == ((0, 0),) and whole.result is not None
    edge = click(predictor, click(predictor, start(predictor, photo), 0, 0, BOX, ""), 799, 599, BOX, "")
    assert edge.result.prompts.boxes.tolist() == [[0, 0, 800, 600]]


@pytest.mark.parametrize(("size", "shown"), [((100, 120), (400, 480)), ((700, 1400), (640, 1280))])
def test_clicks_are_places_of_the_picture_whatever_size_it_is_shown_in(predictor, size, shown):
    clicks = start(predictor, np.zeros((*size, 3), np.uint8))
    assert clicks.picture.shape[:2] == clicks.shown_size == shown
    clicks = click(predictor, clicks, shown[1] - 1, shown[0] // 2, ON, WORDS)
    scale = size[0] / shown[0]  # of the center of the pixel that is clicked
    expected = ((shown[1] - 0.5) * scale - 0.5, (shown[0] // 2 + 0.5) * scale - 0.5)
    assert clicks.points[0] == pytest.approx(expected)
    assert clicks.picture.shape[:2] == shown


def test_everything_forgets_the_clicks(predictor, photo):
    options = EverythingOptions(side=3, iou_threshold=0, stability_threshold=0)
    clicks = click(predictor, start(predictor, photo), 5, 5, ON, WORDS)
    clicks = find_everything(predictor, clicks, WORDS, options)
    expected = clicks.image.everything(clicks.masks.vocabulary, options)
    assert clicks.points == () and len(clicks.rows) == len(expected) > 0
    assert np.array_equal(clicks.picture, np.asarray(expected.plot(prompts=False)))
    more = click(predictor, clicks, 5, 5, ON, WORDS)
    assert len(more.rows) == len(expected) + 1 and more.rows[:-1] == clicks.rows


def test_kept_masks_stay_beside_the_next_object(predictor, photo):
    first = click(predictor, start(predictor, photo), 300, 200, ON, WORDS)
    kept = keep(first)
    assert kept.points == () and kept.rows == first.rows and clear(kept).rows == first.rows
    both = click(predictor, kept, 700, 500, ON, WORDS)
    alone = click(predictor, start(predictor, photo), 700, 500, ON, WORDS)
    assert both.rows[0] == first.rows[0] and both.rows[1][1:] == alone.rows[0][1:]
    assert np.array_equal(both.masks.masks, np.concatenate([first.result.masks, alone.result.masks]))
    assert both.masks.prompts.points.tolist() == [[[300, 200]], [[700, 500]]]
    assert clear(both).rows == first.rows and keep(both).rows == both.rows
    for nothing in (None, start(predictor, photo), kept):
        with pytest.raises(ValueError, match="There is no mask to keep"):
            keep(nothing)


def test_other_words_give_other_names_to_the_same_masks(predictor, photo):
    clicks = keep(click(predictor, start(predictor, photo), 300, 200, ON, WORDS))
    clicks = click(predictor, clicks, 700, 500, ON, WORDS)
    encoded = predictor.model.encoded
    renamed = rename(predictor, clicks, "snow, dotted heart, plain gear")
    assert np.array_equal(renamed.masks.masks, clicks.masks.masks) and renamed.points == clicks.points
    assert [row[2].count(",") for row in renamed.rows] == [2, 2] != [row[2].count(",") for row in clicks.rows]
    fresh = click(predictor, start(predictor, photo), 700, 500, ON, "snow, dotted heart, plain gear")
    assert renamed.rows[1][1:] == fresh.rows[0][1:] and predictor.model.encoded == encoded + 1
    assert rename(predictor, renamed, "snow\ndotted heart\nplain gear") is renamed
    assert rename(predictor, None, "") is None
    untouched = start(predictor, photo)
    assert rename(predictor, untouched, "snow") is untouched


def test_mistakes_are_sentences(predictor, photo, mini_model):
    clicks = start(predictor, photo)
    for act, message in (
        (lambda: start(predictor, None), "There is no picture"),
        (lambda: click(predictor, None, 1, 1, ON, ""), "There is no picture"),
        (lambda: find_everything(predictor, None, ""), "There is no picture"),
        (lambda: click(predictor, clicks, 800, 1, ON, ""), "outside the picture of 800×600"),
        (lambda: click(predictor, clicks, 1, 1, "on", ""), "a click is 'on', but must be one of"),
        (lambda: click(predictor, clicks, 1, 1, ON, "dog, dog"), "'dog' to two classes"),
        (lambda: click(predictor, clicks, 1, 1, ON, '{"a": {}}'), "A tree of names is for whole pictures"),
        (lambda: start(Predictor(mini_model), photo), "PosSAM takes no prompts"),
    ):
        with pytest.raises(ValueError, match=message):
            act()


@needs_gradio
def test_the_page_calls_them(predictor, photo, tmp_path, monkeypatch):
    import gradio

    Image.fromarray(photo).save(tmp_path / "a.png")
    app = build_app(predictor)
    assert {"mode", "prompted", "masks"} <= {getattr(block, "elem_id", None) for block in app.blocks.values()}
    page = _PromptPage(predictor)
    with pytest.warns(UserWarning, match="reads drawings of its own world alone"):
        clicks, picture, rows = page.start(str(tmp_path / "a.png"))
    assert Image.open(picture).size == (800, 600) and picture.endswith("/a-segments.png")
    assert rows == [] and page.start(None) == (None, None, [])
    event = type("Event", (), {"index": (300, 200)})
    clicks, _, rows = page.click(clicks, ON, WORDS, event)
    assert clicks.points == ((300, 200),) and len(rows) == 1
    assert page.clear(clicks, WORDS)[2] == [] and page.restart(clicks, WORDS)[2] == []
    kept, _, kept_rows = page.keep(clicks, WORDS)
    assert kept.points == () and kept_rows == rows and page.clear(kept, WORDS)[2] == rows
    assert page.rename(kept, WORDS) == (gradio.skip(),) * 3 and page.rename(kept, "snow")[2][0][2] == "snow (1.00)"
    (tmp_path / "b.png").write_text("no picture")
    with pytest.warns(UserWarning, match=r"^\W*b.png cannot be read"):
        assert page.start(str(tmp_path / "b.png")) == (None, None, [])

    def nothing(predictor, clicks, words, options):
        names = predictor.model.train_vocabulary
        return replace(clicks, kept=clicks.image.everything(names, replace(options, side=2), threshold=1.0))

    monkeypatch.setattr(prompt_page, "find_everything", nothing)
    with pytest.warns(UserWarning, match="masks that were found are dropped"):
        assert page.everything(page.clear(clicks, WORDS)[0], WORDS, 0.0, 0.0)[2] == []
    with pytest.warns(UserWarning, match="There is no mask to keep"):
        assert page.keep(None, WORDS) == (gradio.skip(),) * 3
