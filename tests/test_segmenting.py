"""Folders of pictures through the shipped model; the command `possam segment`."""

import json

import numpy as np
import pytest
from PIL import Image

from possam.cli import main
from possam.data import read_id_map
from possam.frames import find_sources
from possam.predictor import Predictor
from possam.segmenting import segment_files
from possam.shipped import SAMPLE, SAMPLE_WORDS, pretrained_folder, shipped_names
from possam.vocabulary.words import read_words, split_words

WORDS = read_words(split_words(SAMPLE_WORDS))


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained("possam-mini", text_cache="")


def test_the_shipped_model_is_small_and_names_what_it_never_saw(predictor):
    assert shipped_names() == ["possam-mini"]
    assert sum(file.stat().st_size for file in pretrained_folder("possam-mini").iterdir()) <= 1.5e6
    result = predictor(SAMPLE, WORDS)
    assert set(result.labels) == {"striped heart", "striped flower", "checkered gear", "snow", "gravel", "tile"}
    assert not any(WORDS.seen(predictor.model.train_vocabulary)[info["label_id"]] for info in result.segments_info)


def test_files_are_written_and_bad_ones_passed_over(predictor, tmp_path):
    (tmp_path / "bad.jpg").write_text("not a picture")
    Image.open(SAMPLE).crop((0, 0, 90, 70)).save(tmp_path / "good.png")
    steps = []
    outcome = segment_files(
        predictor,
        find_sources([tmp_path, tmp_path / "gone.png"]),
        WORDS,
        tmp_path / "out",
        progress=lambda *step: steps.append(step),
    )
    assert outcome.images == 1 and steps == [(1, 3), (2, 3), (3, 3)]
    assert sorted(outcome.failures) == [str(tmp_path / "bad.jpg"), str(tmp_path / "gone.png")]
    content = json.loads(outcome.json.read_text())
    (annotation,) = content["annotations"]
    ids = read_id_map(tmp_path / "out" / "panoptic" / annotation["file_name"])
    assert ids.shape == (70, 90) and {s["id"] for s in annotation["segments_info"]} == set(np.unique(ids)) - {0}
    assert content["images"][0]["height"] == 70 and len(content["categories"]) == len(WORDS)
    assert Image.open(tmp_path / "out" / "overlay" / "good.jpg").width >= 90


def test_what_was_done_is_kept_when_the_run_is_stopped(predictor, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_files(predictor, find_sources([SAMPLE, "gone.png"]), WORDS, tmp_path, progress=stop)
    assert len(json.loads((tmp_path / "panoptic.json").read_text())["annotations"]) == 1


def test_the_command_on_the_sample(tmp_path, capsys):
    assert main(["segment", "--sample", "--output", str(tmp_path / "out")]) == 0
    assert "1 image;" in capsys.readouterr().out
    assert (tmp_path / "out" / "overlay" / "sample.jpg").is_file()


def test_the_command_goes_on_after_a_bad_file_and_says_so_at_the_end(tmp_path, capsys):
    words = ["--classes", "tile: stuff", "--output", str(tmp_path / "out")]
    assert main(["segment", str(tmp_path / "gone.png"), str(SAMPLE), *words]) == 1
    captured = capsys.readouterr()
    assert "1 image;" in captured.out and f"error: there is no image at {tmp_path / 'gone.png'}" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png"], "no class was given"),
        (["--classes", "a"], "no image was given"),
        (["a.png", "--classes", "tile, tile"], "the name 'tile' to two classes"),
        (["a.png", "--classes", "tile", "--every", "0"], "--every is 0"),
        (["a.png", "--classes", "tile", "--model", "possam-maxi"], "'possam-maxi'.*Did you mean 'possam-mini'"),
        (["a.png", "--classes", "none.json"], "none.json"),
        (["--sample", "--output", "/proc/none"], "/proc/none"),
        (["--sample", "--ensemble", "mace"], "mace.*mase"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, message, tmp_path, capsys):
    output = [] if "--output" in arguments else ["--output", str(tmp_path)]
    assert main(["segment", *arguments, *output]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    import re

    assert re.search(message, error)


def test_an_empty_list_of_words_is_not_the_samples_own(tmp_path, capsys):
    assert main(["segment", "--sample", "--classes", "", "--output", str(tmp_path)]) == 1
    assert "no class was given" in capsys.readouterr().err


def test_what_is_wrong_with_the_words_is_said_once_and_before_any_image(predictor, tmp_path):
    with pytest.raises(ValueError, match="unknown ensemble 'mace'"):
        segment_files(predictor, find_sources([SAMPLE]), WORDS, tmp_path / "out", ensemble="mace")
    assert not (tmp_path / "out").exists()
