"""The demo's page for whole pictures: what its buttons do."""

import importlib.util
import os
import runpy
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from possam.demo.page import build_app, launch
from possam.demo.parts import FORGET_AFTER, save_result
from possam.demo.segmenting import describe_click, describe_segment, segment
from possam.demo.typed import read_typed
from possam.shipped import SAMPLE, SAMPLE_WORDS

needs_gradio = pytest.mark.skipif(not importlib.util.find_spec("gradio"), reason="Gradio is not installed")


def test_the_sample_is_segmented_drawn_and_listed(shown):
    names = [row[1] for row in shown.rows]
    assert sorted(names) == ["checkered gear", "gravel", "snow", "striped flower", "striped heart", "tile"]
    areas = [float(row[-1].removesuffix(" %")) for row in shown.rows]
    assert areas == sorted(areas, reverse=True) and 80 < sum(areas) <= 100.5
    assert dict(zip(names, [row[2] for row in shown.rows], strict=True))["snow"] == "stuff"
    assert shown.picture.dtype == np.uint8 and shown.picture.shape[0] == shown.picture.shape[1] >= 480
    assert shown.warnings == ()
    assert [word.label for word in shown.segmentation.missing] == ["plain ring", "water"]


def test_a_threshold_leaves_less(predictor):
    surest = segment(predictor, str(SAMPLE), SAMPLE_WORDS, threshold=0.9)
    assert {row[1] for row in surest.rows} == {"checkered gear", "gravel", "tile"}
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\]"):
        segment(predictor, str(SAMPLE), SAMPLE_WORDS, threshold=-1)


@pytest.mark.parametrize("label", ["striped heart", "tile", "checkered gear"])
def test_a_click_tells_why_the_mask_got_its_name(shown, label, place_of):
    explanation = describe_click(shown, *place_of(shown, label))
    assert explanation.label == label
    assert explanation == describe_segment(shown, next(row[0] for row in shown.rows if row[1] == label))
    told = explanation.to_dict()
    assert all(len(told[key]) == 5 for key in ("in_vocabulary", "clip", "final"))
    assert {"iou", "void", "confidence", "clip_weight", "ensemble", "score"} <= told.keys()


def test_a_click_where_nothing_is_and_outside(predictor):
    nothing = segment(predictor, str(SAMPLE), "dog")
    assert describe_click(nothing, 3, 3) is None
    with pytest.raises(ValueError, match="outside the picture of 512×512"):
        describe_click(nothing, 512, 3)
    with pytest.raises(ValueError, match="no segment 7; the segments are"):
        describe_segment(nothing, 7)


def test_words_that_the_miniature_model_does_not_know_are_named(predictor):
    # Also the second time, when their embeddings are kept.
    for _ in range(2):
        warnings = segment(predictor, str(SAMPLE), "dog, striped zebra, snow: stuff").warnings
        assert any("does not know 'dog', 'zebra';" in warning for warning in warnings)
    words = [f"word{number}" for number in range(12)]
    (warning, *_) = segment(predictor, str(SAMPLE), ", ".join(words)).warnings
    assert f"{words[7]!r} and 4 other words;" in warning and words[8] not in warning


def test_the_ensemble_is_the_visitors_choice(predictor):
    by = {name: segment(predictor, str(SAMPLE), SAMPLE_WORDS, ensemble=name) for name in ("ldp", "clip")}
    weights = {name: describe_segment(shown, shown.rows[0][0]).clip_weight for name, shown in by.items()}
    assert weights == {"ldp": 0.0, "clip": 1.0}


def test_large_pictures_are_drawn_small_and_clicks_still_fit(predictor, place_of):
    image = np.asarray(Image.open(SAMPLE).convert("RGB").resize((3000, 2000)))
    shown = segment(predictor, image, SAMPLE_WORDS)
    assert shown.picture.shape[1] == 1280 and shown.segmentation.segmentation.shape == (2000, 3000)
    for _, label, *_ in shown.rows:
        assert describe_click(shown, *place_of(shown, label)).label == label


@pytest.mark.parametrize(
    ("image", "words", "message"),
    [
        (None, "dog", "There is no picture: drop one"),
        (str(SAMPLE), "", "There is no word to look for: type some"),
        (str(SAMPLE), " ,\n, ", "There is no word to look for"),
        (str(SAMPLE), "dog, , cat", "word number 2 is empty"),
        (str(SAMPLE), "dog: animal", "marks are 'thing' and 'stuff'"),
        (str(SAMPLE), "dog, dog", "'dog' to two classes"),
        (__file__, "dog", "cannot be read as an image"),
        (str(SAMPLE), ", ".join(f"word{i}" for i in range(6000)), "at most 5000"),
    ],
)
def test_mistakes_are_sentences(predictor, image, words, message):
    with pytest.raises(ValueError, match=message):
        segment(predictor, image, words)


def test_lines_lists_and_no_files(tmp_path):
    assert read_typed("sofa|couch,\nlawn: stuff\n").names == ("sofa", "couch", "lawn")
    assert len(read_typed(" ade20k_150 ")) == 150
    # A visitor must not read the server's files, nor learn which there are.
    (tmp_path / "secret.json").write_text("{}")
    for path in (tmp_path / "secret.json", tmp_path / "none.json"):
        with pytest.raises(ValueError, match=f"'{path}' is the name of a file, not of a class"):
            read_typed(str(path))


def test_without_gradio_the_fix_is_named(predictor, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match=r"pip install 'possam\[demo\]'"):
        build_app(predictor)


def test_the_script_says_what_it_does_and_what_is_wrong(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["demo.py", *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path("tools/demo.py", run_name="__main__")
        return end.value.code

    assert call("--help") == 0 and "--share" in capsys.readouterr().out
    assert call("--model", "possam-mine").startswith("error: there is no model 'possam-mine'")
    assert call("--model", "").startswith("error: there is no model ''")


@needs_gradio
def test_a_taken_port_is_named(predictor):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot be served at 127.0.0.1:{port}; choose another port"):
            launch(predictor, port=port, wait=False)


@needs_gradio
def test_results_are_named_after_the_photo_and_deleted_when_they_are_forgotten(shown, tmp_path, monkeypatch):
    at_exit = []
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr("possam.demo.parts.atexit.register", at_exit.append)
    assert shown.segmentation.file_name == "sample.png"
    first = Path(save_result(shown.picture, shown.segmentation.file_name))
    assert first.name == "sample-segments.png" and np.array_equal(Image.open(first), shown.picture)
    second = Path(save_result(shown.picture, ""))
    assert second.name == "picture-segments.png" and first.is_file()
    os.utime(first.parent, (0, time.time() - FORGET_AFTER - 1))
    third = Path(save_result(shown.picture, str(tmp_path / "my photo.jpg")))
    assert third.name == "my photo-segments.png" and second.is_file() and not first.parent.exists()
    (third.parent.parent / "of another server").mkdir()
    (delete,) = at_exit
    delete()
    assert [path.name for path in (tmp_path / "possam").iterdir()] == ["of another server"]


@needs_gradio
def test_files_of_visitors_are_deleted_when_they_are_forgotten(predictor):
    every, age = build_app(predictor).delete_cache
    assert every < age == FORGET_AFTER


@needs_gradio
def test_drawings_are_the_example_of_the_miniature_model_alone(predictor, monkeypatch):
    def kinds():
        return {component["type"] for component in build_app(predictor).config["components"]}

    assert {"dataset", "slider"} <= kinds()
    monkeypatch.setattr(type(predictor.model.clip), "reads_any_word", True)
    assert "dataset" not in kinds()
