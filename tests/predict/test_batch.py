"""Folders of pictures through the shipped model; the command `possam segment`."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from possam.cli import main
from possam.data import pictures, read_id_map
from possam.evaluation.panoptic import read_predictions
from possam.predict import batch, sources
from possam.predict.batch import segment_files
from possam.predict.predictor import Predictor
from possam.predict.sources import find_sources
from possam.predict.videos import frame_rate, read_video, write_video
from possam.shipped import SAMPLE, SAMPLE_WORDS, pretrained_folder, shipped_names
from possam.vocabulary import Hierarchy
from possam.vocabulary.words import read_words, split_words

WORDS = read_words(split_words(SAMPLE_WORDS))


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained("possam-mini", text_cache="")


def test_the_shipped_model_is_small_and_names_what_it_never_saw(predictor):
    assert shipped_names() == ["possam-mini", "possam-mini-prompt"]
    assert sum(file.stat().st_size for file in pretrained_folder("possam-mini").iterdir()) <= 1.5e6
    result = predictor(SAMPLE, WORDS, background=False)
    assert set(result.labels) == {"striped heart", "striped flower", "checkered gear", "snow", "gravel", "tile"}
    assert not any(WORDS.seen(predictor.model.train_vocabulary)[info["label_id"]] for info in result.segments_info)


def test_words_that_are_not_in_the_picture_are_missing_with_a_reason(predictor):
    result = predictor(SAMPLE, "striped heart, plain ring, water: stuff, snow: stuff, wood: stuff")
    assert set(result.labels) == {"striped heart", "snow"}
    assert [word.label for word in result.missing] == ["plain ring", "water", "wood"]
    for word in result.missing:
        assert repr(word.label) in word.reason and word.cause in ("background", "word", "threshold")
    (lonely,) = predictor(SAMPLE, "water: stuff").missing
    assert lonely.cause == "background" and lonely.winner in predictor.model.train_vocabulary.display_names
    assert "water" in predictor(SAMPLE, "water: stuff", background=False).labels  # which takes what is best of all


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
    assert {"plain ring", "water"} <= {word.label for word in outcome.missing}
    assert sorted(outcome.failures) == [str(tmp_path / "bad.jpg"), str(tmp_path / "gone.png")]
    content = json.loads(outcome.json.read_text())
    (annotation,) = content["annotations"]
    ids = read_id_map(tmp_path / "out" / "panoptic" / annotation["file_name"])
    assert ids.shape == (70, 90) and {s["id"] for s in annotation["segments_info"]} == set(np.unique(ids)) - {0}
    assert content["images"][0]["height"] == 70 and len(content["categories"]) == len(WORDS)
    assert Image.open(tmp_path / "out" / "overlay" / "good.jpg").width >= 90


def test_defaults_that_are_given_by_name_go_on(predictor, tmp_path):
    def run(**options):
        return segment_files(predictor, find_sources([SAMPLE]), WORDS, tmp_path, **options).resumed

    least = predictor.model.postprocessor.object_threshold
    assert run() == 0 and run(background=True, threshold=least) == 1
    with pytest.raises(ValueError, match="other settings: background is false and was true; threshold is 0.5 and was"):
        run(background=False, threshold=np.float32(0.5))


def test_missing_words_are_json_whatever_number_the_threshold_is(predictor):
    missing = predictor(SAMPLE, WORDS, threshold=np.float32(0.75)).missing
    assert missing and {json.loads(json.dumps(word.to_dict()))["threshold"] for word in missing} == {0.75}


def test_an_overlay_that_no_jpeg_holds_leaves_the_panoptic_png(predictor, tmp_path):
    Image.new("RGB", (65_600, 3)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "b.png")
    old = tmp_path / "out" / "overlay" / "a.jpg"
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier run")
    outcome = segment_files(predictor, find_sources([tmp_path / "a.png", tmp_path / "b.png"]), WORDS, tmp_path / "out")
    (reason,) = outcome.failures.values()
    assert outcome.failures.keys() == {str(tmp_path / "a.png")}
    assert "a.jpg cannot be written (it has 65600×" in reason and reason.endswith("Its panoptic PNG is written.")
    assert [image["id"] for image in json.loads(outcome.json.read_text())["images"]] == ["a", "b"] and not old.exists()
    assert read_id_map(tmp_path / "out" / "panoptic" / "a.png").shape == (3, 65_600)


def test_results_that_cannot_be_written_are_listed_and_leave_nothing(predictor, tmp_path, monkeypatch):
    for name in ("b.png", "c.png", "a" + "\u7167" * 84):
        Image.new("RGB", (8, 6)).save(tmp_path / name, format="PNG")
    write = batch.write_id_map

    def full(path, ids):
        if path.stem == "b":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, ids)

    monkeypatch.setattr(batch, "write_id_map", full)
    outcome = segment_files(predictor, find_sources([tmp_path, tmp_path / name]), WORDS, tmp_path / "out")
    assert outcome.images == 1 and [image["id"] for image in json.loads(outcome.json.read_text())["images"]] == ["c"]
    long, disk = (outcome.failures[key] for key in sorted(outcome.failures))
    assert "cannot be written (File name too long)" in long
    assert disk == f"its result {tmp_path / 'out' / 'panoptic' / 'b.png'} cannot be written (No space left on device)."
    written = sorted(file.name for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert written == ["c.jpg", "c.png", "journal.jsonl", "panoptic.json", "run.lock"]


def test_a_place_that_is_taken_is_said_before_any_image(predictor, tmp_path):
    (tmp_path / "a/panoptic.json").mkdir(parents=True)
    with pytest.raises(ValueError, match="panoptic.json is a folder"):
        segment_files(predictor, find_sources([SAMPLE]), WORDS, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/panoptic").touch()
    with pytest.raises(FileExistsError, match="panoptic"):
        segment_files(predictor, find_sources([SAMPLE]), WORDS, tmp_path / "b")
    assert not list(tmp_path.rglob("*.png"))


def test_a_file_whose_name_is_no_text_gets_a_name_that_is(predictor, tmp_path, caplog):
    name = os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (8, 6)).save(tmp_path / name)
    outcome = segment_files(predictor, find_sources([tmp_path]), WORDS, tmp_path / "out")
    content = json.loads(outcome.json.read_text())
    assert content["images"][0]["id"] == "caf�" and content["images"][0]["file_name"].endswith("/caf�.png")
    read_predictions(outcome.json, WORDS)
    assert (tmp_path / "out/panoptic/caf�.png").is_file() and "as caf�" in caplog.text


def test_an_image_that_memory_does_not_suffice_for_is_listed(predictor, tmp_path, monkeypatch):
    for name in ("a", "b"):
        Image.new("RGB", (8, 6), "red" if name == "a" else "blue").save(tmp_path / f"{name}.png")
    batches = []
    propose = type(predictor.model).propose

    def short(self, inputs):
        batches.append(len(inputs))
        if any(one["image"][0, 0, 0] for one in inputs):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return propose(self, inputs)

    monkeypatch.setattr(type(predictor.model), "propose", short)
    outcome = segment_files(predictor, find_sources([tmp_path]), WORDS, tmp_path / "out", batch_size=2)
    assert outcome.images == 1 and outcome.failures == {str(tmp_path / "a.png"): "CUDA out of memory"}
    assert batches == [2, 1, 1]  # the other one does not fail with it


def test_results_are_those_of_the_predictor_bit_by_bit(predictor, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    crops = {"a": (0, 0, 90, 70), "b": (20, 10, 128, 60), "c": (5, 0, 128, 128), "d": (30, 30, 120, 100)}
    annotations, maps = [], {}
    for name, box in crops.items():
        Image.open(SAMPLE).crop(box).save(folder / f"{name}.png")
        result = predictor(folder / f"{name}.png", WORDS)
        annotations.append(result.to_coco(image_id=name, file_name=f"{name}.png"))
        maps[name] = result.segmentation
    found = find_sources([folder])
    options = {"one": {"workers": 0}, "two": {}, "batches": {"batch_size": 2}}
    for run, chosen in options.items():
        outcome = segment_files(predictor, found, WORDS, tmp_path / run, **chosen)
        content = json.loads(outcome.json.read_text())
        if run == "batches":  # scores, by rounding
            for one, other in zip(content["annotations"], annotations, strict=True):
                for segment, wanted in zip(one["segments_info"], other["segments_info"], strict=True):
                    assert segment.pop("score") == pytest.approx(wanted.pop("score"), abs=1e-5)
        assert content["annotations"] == annotations and outcome.images == 4 and not outcome.failures
        for name, ids in maps.items():
            assert np.array_equal(read_id_map(tmp_path / run / "panoptic" / f"{name}.png"), ids)
            overlay = (tmp_path / run / "overlay" / f"{name}.jpg").read_bytes()
            assert overlay == (tmp_path / "one" / "overlay" / f"{name}.jpg").read_bytes()


def test_counts_that_cannot_be_used_are_told(predictor, tmp_path):
    for wrong, message in (({"batch_size": 0}, "batch_size is 0"), ({"workers": -1}, "workers is -1")):
        with pytest.raises(ValueError, match=message):
            segment_files(predictor, find_sources([SAMPLE]), WORDS, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_a_damaged_video_is_segmented_but_for_its_damage(predictor, tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(b"video")

    def read(path, *, every):
        yield from ((number, np.full((6, 8, 3), number, np.uint8)) for number in (0, 2))
        raise ValueError(f"{path} is damaged: frames [1] do not decode")

    monkeypatch.setattr(sources, "read_video", read)
    write = batch.write_id_map

    def refuse(path, ids):
        if path.stem == "000000":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        write(path, ids)

    monkeypatch.setattr(batch, "write_id_map", refuse)
    path = tmp_path / "clip.mp4"
    outcome = segment_files(predictor, find_sources([path]), WORDS, tmp_path / "out")
    assert [image["id"] for image in json.loads(outcome.json.read_text())["images"]] == ["clip/000002"]
    assert outcome.failures.keys() == {f"{path}, clip/000000", str(path)}
    assert "frames [1]" in outcome.failures[str(path)]


def test_sources_of_several_searches_do_not_overwrite_each_other(predictor, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 6)).save(tmp_path / folder / "a.png")
    sources = find_sources([tmp_path / "one"]) + find_sources([tmp_path / "two"])
    outcome = segment_files(predictor, sources, WORDS, tmp_path / "out")
    images = json.loads(outcome.json.read_text())["images"]
    assert [image["id"] for image in images] == ["a", "a-2"] and images[1]["file_name"].endswith("two/a.png")


def test_what_was_done_is_kept_when_the_run_is_stopped(predictor, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_files(predictor, find_sources([SAMPLE, "gone.png"]), WORDS, tmp_path, progress=stop)
    assert len(json.loads((tmp_path / "panoptic.json").read_text())["annotations"]) == 1


def test_the_command_on_the_sample(tmp_path, capsys):
    assert main(["segment", "--sample", "--output", str(tmp_path / "out")]) == 0
    line, last, *missing = capsys.readouterr().out.splitlines()
    assert line.startswith("sample: tile ×1 28.9 % ") and last.startswith("1 image;")
    others = ("striped heart", "striped flower", "checkered gear", "gravel", "snow")
    assert all(f"{word} ×1 " in line for word in others)
    assert any("Nothing was found for 'water': its best mask" in sentence for sentence in missing)
    assert (tmp_path / "out" / "overlay" / "sample.jpg").is_file()


def test_the_command_prints_json_or_nothing_and_makes_a_video(tmp_path, capsys):
    frame = np.asarray(Image.open(SAMPLE).convert("RGB"))
    assert write_video(tmp_path / "in" / "clip.mp4", [frame] * 4, 8.0) == 4
    arguments = [str(tmp_path / "in"), "--classes", SAMPLE_WORDS, "--no-background", "--every", "2"]
    assert main(["segment", *arguments, "--output", str(tmp_path / "out"), "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["image"] for record in records] == ["clip/000000", "clip/000002"]
    assert all((record["width"], record["height"]) == (128, 128) for record in records)
    found = records[0]["found"]
    assert {"checkered gear", "tile"} <= {one["label"] for one in found} and all(0 < one["score"] <= 1 for one in found)
    made = tmp_path / "out" / "video" / "clip.mp4"
    assert frame_rate(made) == pytest.approx(4)
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlay" / "clip" / "000000.jpg"), dtype=int)
    _, shown = next(read_video(made))
    assert shown.shape == overlay.shape and np.abs(shown - overlay).mean() < 8
    assert main(["segment", *arguments[:3], "--every", "9", "--output", str(tmp_path / "quiet"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_the_command_says_what_was_done_before_and_refuses_other_words(tmp_path, capsys):
    words = ["segment", "--sample", "--output", str(tmp_path / "out")]
    assert main([*words, "--classes", "tile"]) == 0 and main([*words, "--classes", "tile"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 image (1 done before); overlays")
    assert main([*words, "--classes", "tile, snow"]) == 1
    assert "classes is \"[tile, snow]" in capsys.readouterr().err
    assert main([*words, "--classes", "tile, snow", "--overwrite"]) == 0


def test_the_command_takes_addresses_and_resumes(tmp_path, monkeypatch, capsys):
    content, address = SAMPLE.read_bytes(), "http://host/photo.png?size=1"
    asked = []
    monkeypatch.setattr(pictures, "download_picture", lambda given: asked.append(given) or content)
    words = ["segment", address, "--classes", "snow", "--output", str(tmp_path / "out"), "--json"]
    for _ in range(2):
        assert main(words) == 0
        record = json.loads(capsys.readouterr().out)
        assert record["image"] == address and record["name"] == "photo" and record["found"][0]["label"] == "snow"
    assert asked == [address]


def test_the_command_leaves_out_its_own_results(tmp_path, capsys, caplog):
    (tmp_path / "photo.png").write_bytes(SAMPLE.read_bytes())
    words = ["segment", str(tmp_path), "--classes", "snow", "--output", str(tmp_path)]
    assert main(words) == main(words) == 0
    assert "\n1 image (1 done before)" in capsys.readouterr().out
    assert f"2 files in the folders of results in {tmp_path} are left out" in caplog.text
    own = ["segment", str(tmp_path / "overlay"), "--classes", "snow", "--output", str(tmp_path)]
    assert main(own) == 1 and "all images given are results in" in capsys.readouterr().err


def test_lines_of_the_command_have_no_control_characters(tmp_path, capsys):
    path = tmp_path / "two\nlines\x1b[2J.png"
    path.write_bytes(SAMPLE.read_bytes())
    (tmp_path / "bad\n.png").write_text("no picture")
    assert main(["segment", str(tmp_path), "--classes", "snow", "--output", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("two\\nlines\\x1b[2J: snow ×1 ") and len(captured.out.splitlines()) == 2
    assert "bad\\n.png cannot be read" in captured.err


def test_the_command_with_a_tree(tmp_path, capsys):
    things = {"heart": ["striped heart", "dotted heart"], "gear": ["checkered gear"]}
    tree = {"thing": things, "stuff": ["snow", "tile"]}
    (tmp_path / "tree.json").write_text(json.dumps(tree))
    words = ["--hierarchy", str(tmp_path / "tree.json"), "--stop-below", "0.5", "--output", str(tmp_path / "out")]
    assert main(["segment", "--sample", *words]) == 0
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert list(names.values()) == [
        "thing", "heart", "striped heart", "dotted heart", "gear", "checkered gear", "stuff", "snow", "tile"
    ]  # fmt: skip
    segments = content["annotations"][0]["segments_info"]
    assert "thing → heart → striped heart" in {" → ".join(level["name"] for level in one["path"]) for one in segments}
    for one in segments:
        assert names[one["category_id"]] == one["path"][-1]["name"]
        assert one["path_probability"] == pytest.approx(np.prod([level["probability"] for level in one["path"]]))
    nodes = Hierarchy.from_file(tmp_path / "tree.json").vocabulary
    assert len(read_predictions(tmp_path / "out" / "panoptic.json", nodes)) == 1


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
        (["a.png", "--classes", "tile", "--batch-size", "0"], "--batch-size is 0"),
        (["a.png", "--point", "2,3", "--batch-size", "2"], "with prompts, leave it out"),
        (["a.png", "--classes", "tile", "--workers", "-1"], "--workers is -1"),
        (["a.png", "--classes", "tile", "--model", "possam-maxi"], "'possam-maxi'.*Did you mean 'possam-mini'"),
        (["a.png", "--classes", "none.json"], "none.json"),
        (["--sample", "--output", "/proc/none"], "/proc/none"),
        (["--sample", "--ensemble", "mace"], "mace.*mase"),
        (["--sample", "--threshold", "1.5"], r"threshold must be a number in \[0, 1\]"),
        (["--sample", "--threshold", "nan"], r"threshold must be a number in \[0, 1\]"),
        (["--sample", "--point", "5"], "--point is '5', but must be X,Y in pixels"),
        (["--sample", "--point", "5,x"], "--point is '5,x'"),
        (["--sample", "--point", "5,6:no"], "after the colon comes"),
        (["--sample", "--point", "5,6:-"], "needs a box or a point on the object"),
        (["--sample", "--box", "1,2,3"], "--box is '1,2,3', but must be X0,Y0,X1,Y1"),
        (["--sample", "--box", "9,2,3,8"], "x0 < x1"),
        (["--sample", "--box", "1,2,3,4", "--box", "1,2,3,4", "--point", "2,3"], "2 --box are as many objects"),
        (["--sample", "--everything", "--point", "2,3"], "leave out --point and --box"),
        (["--sample", "--everything", "--grid", "0"], "at least 1 point a side"),
        (["--sample", "--grid", "8"], "--grid is an option of --everything"),
        (["--sample", "--stability-threshold", "0.5"], "--stability-threshold is an option of --everything"),
        (["--sample", "--everything", "--iou-threshold", "2"], r"iou_threshold must be in \[0, 1\], but is 2.0"),
        (["--sample", "--everything", "--iou-threshold", "nan"], r"iou_threshold must be in \[0, 1\], but is nan"),
        (["--sample", "--everything", "--stability-threshold", "-0.1"], r"stability_threshold must be in .* is -0.1"),
        (["--sample", "--point", "2,3"], "PosSAM takes no prompts: it finds all masks"),
        (["--sample", "--hierarchy", "none.json"], "none.json does not exist"),
        (["--sample", "--stop-below", "0.5"], "--stop-below is for a tree of names"),
        (["--sample", "--hierarchy", "TREE", "--stop-below", "2"], r"stop_below must be in \[0, 1\], got 2"),
        (["--sample", "--hierarchy", "TREE", "--classes", "snow"], r"leaves.*not among the 1 classes.*\[tile\]"),
        (["--sample", "--hierarchy", "TREE", "--point", "2,3"], "with prompts, give --classes instead"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, message, tmp_path, capsys):
    output = [] if "--output" in arguments else ["--output", str(tmp_path)]
    (tmp_path / "tree.json").write_text('{"stuff": ["snow", "tile"]}')
    arguments = [str(tmp_path / "tree.json") if word == "TREE" else word for word in arguments]
    assert main(["segment", *arguments, *output]) == 1
    error = capsys.readouterr().err
    assert error.strip().startswith("error: ") and "Traceback" not in error
    import re

    assert re.search(message, error)


def test_an_empty_list_of_words_is_not_the_samples_own(tmp_path, capsys):
    assert main(["segment", "--sample", "--classes", "", "--output", str(tmp_path)]) == 1
    assert "no class was given" in capsys.readouterr().err


def test_what_is_wrong_with_the_words_is_said_once_and_before_any_image(predictor, tmp_path):
    with pytest.raises(ValueError, match="unknown ensemble 'mace'"):
        segment_files(predictor, find_sources([SAMPLE]), WORDS, tmp_path / "out", ensemble="mace")
    assert not (tmp_path / "out").exists()
