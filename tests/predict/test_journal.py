"""Runs that are stopped and go on, that change, and that several processes share."""

import errno
import json
import logging
import os
import signal
import socket
import traceback

import numpy as np
import pytest
from PIL import Image

from possam.cli import main
from possam.data import read_id_map
from possam.predict import sources as sources_module
from possam.predict.batch import segment_files
from possam.predict.journal import Journal
from possam.predict.predictor import Predictor
from possam.predict.sources import find_sources
from possam.shipped import SAMPLE
from possam.vocabulary.words import read_words

WORDS = read_words(["striped heart", "tile: stuff", "snow: stuff"])


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained("possam-mini", text_cache="")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        Image.open(SAMPLE).crop((number, 0, number + 40, 30)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def segmented(predictor, monkeypatch):
    """The sizes of batches that went through the network."""
    seen = []
    propose = type(predictor.model).propose

    def spy(self, inputs):
        seen.append(len(inputs))
        return propose(self, inputs)

    monkeypatch.setattr(type(predictor.model), "propose", spy)
    return seen


def files(folder):
    """All results by name; the lock's file names the process that held it."""
    names = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


def test_a_killed_run_goes_on_to_the_same_files_as_one_that_was_not(predictor, images, tmp_path, segmented):
    found = find_sources([images])
    segment_files(predictor, found, WORDS, tmp_path / "whole")
    if not (child := os.fork()):
        try:
            segment_files(predictor, found, WORDS, tmp_path / "out", workers=0,
                          progress=lambda done, total: done == 2 and os.kill(os.getpid(), signal.SIGKILL))  # fmt: skip
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    part = tmp_path / "out" / "journal.part-0.jsonl"
    done = part.read_bytes().count(b"\n")
    assert 2 <= done < 5 and not (tmp_path / "out" / "panoptic.json").exists()
    with part.open("ab") as file:
        file.write(b'{"source": "4", "fi')  # it was about to write a line
    segmented.clear()
    outcome = segment_files(predictor, found, WORDS, tmp_path / "out")
    assert (outcome.images, outcome.resumed, len(segmented)) == (5, done, 5 - done)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    segmented.clear()
    outcome = segment_files(predictor, found, WORDS, tmp_path / "out")
    assert (outcome.images, outcome.resumed, segmented) == (5, 5, [])
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_what_has_changed_is_done_again_and_nothing_else(predictor, images, tmp_path, segmented, caplog):
    out = tmp_path / "out"
    segment_files(predictor, find_sources([images]), WORDS, out)
    before = files(out)
    Image.open(SAMPLE).crop((9, 9, 50, 60)).save(images / "1.png")
    (out / "overlay" / "2.jpg").unlink()
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 6 and json.loads(lines[4])["source"] == "3"
    lines[4] = b"\0" * 99 + b"\n"  # what a file system makes of a power failure
    (out / "journal.jsonl").write_bytes(b"".join(lines))
    segmented.clear()
    with caplog.at_level(logging.WARNING):
        outcome = segment_files(predictor, find_sources([images]), WORDS, out)
    assert "has 1 lines that are damaged" in caplog.text
    assert (outcome.images, outcome.resumed, len(segmented)) == (5, 2, 3)
    assert read_id_map(out / "panoptic" / "1.png").shape == (51, 41)
    after = files(out)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"overlay/1.jpg", "panoptic/1.png", "panoptic.json", "journal.jsonl"}


def test_other_settings_need_another_folder_or_overwriting(predictor, images, tmp_path, segmented):
    out = tmp_path / "out"
    segment_files(predictor, find_sources([images]), WORDS, out)
    before = files(out)
    other = read_words(["tile: stuff"])
    for arguments, changed in (
        ({"vocabulary": other}, r"classes is \"\[tile\] \w+\" and was \"\[striped heart, tile, snow\] \w+\""),
        ({"ensemble": "clip"}, 'ensemble is "clip" and was "mase"'),
        ({"every": 2}, "every is 2 and was 1"),
    ):
        call = {"vocabulary": WORDS, **arguments}
        with pytest.raises(ValueError, match=f"other settings: {changed}. Give another folder"):
            segment_files(predictor, find_sources([images]), output=out, **call)
    weight = next(parameter for parameter in predictor.model.parameters() if parameter.requires_grad)
    weight.data += 1
    try:
        with pytest.raises(ValueError, match="model is \"PosSAM"):
            segment_files(predictor, find_sources([images]), WORDS, out)
    finally:
        weight.data -= 1
    assert files(out) == before
    only = find_sources([images / "3.png"])
    outcome = segment_files(predictor, only, other, out, overwrite=True)
    assert (outcome.images, outcome.resumed) == (1, 0)
    assert sorted(files(out)) == ["journal.jsonl", "overlay/3.jpg", "panoptic.json", "panoptic/3.png"]


def test_a_json_of_something_else_is_not_replaced(predictor, images, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "panoptic.json").write_text("{}")
    with pytest.raises(ValueError, match="but no journal.jsonl"):
        segment_files(predictor, find_sources([images]), WORDS, out)
    (out / "journal.jsonl").write_text("[]\n")
    with pytest.raises(ValueError, match="does not begin with the settings"):
        segment_files(predictor, find_sources([images]), WORDS, out)
    assert (out / "panoptic.json").read_text() == "{}" and not list(out.rglob("*.png"))


def test_overwriting_removes_results_of_another_kind_and_nothing_outside(predictor, images, tmp_path):
    segment_files(predictor, find_sources([images / "1.png"]), WORDS, tmp_path / "out")
    journal = Journal(tmp_path / "out", "instances", 0)
    (tmp_path / "image.png").touch()
    with (tmp_path / "out" / "journal.jsonl").open("a") as file:
        stamp = '"file": "", "size": 0, "mtime_ns": 0, "annotations": [], "complete": true'
        file.write(f'{{"source": "a", {stamp}, "image": {{"id": "../../image"}}}}\n')
    with pytest.raises(ValueError, match='results is "instances" and was "panoptic"'):
        journal.begin({}, find_sources([SAMPLE]), overwrite=False)
    assert journal.begin({}, find_sources([SAMPLE]), overwrite=True) == 0
    assert list(files(tmp_path / "out")) == ["journal.jsonl"] and (tmp_path / "image.png").exists()


def test_files_that_failed_are_tried_again_and_those_of_other_runs_stay_known(predictor, images, tmp_path, segmented):
    out = tmp_path / "out"
    good = (images / "2.png").read_bytes()
    (images / "2.png").write_bytes(good[:-90])
    outcome = segment_files(predictor, find_sources([images]), WORDS, out)
    assert outcome.images == 4 and outcome.failures.keys() == {str(images / "2.png")}
    (images / "2.png").write_bytes(good)
    segmented.clear()
    outcome = segment_files(predictor, find_sources([images / "2.png"]), WORDS, out)
    assert (outcome.images, outcome.resumed, segmented) == (1, 0, [1])
    outcome = segment_files(predictor, find_sources([images]), WORDS, out)
    assert (outcome.images, outcome.resumed, segmented, outcome.failures) == (5, 5, [1], {})
    assert [image["id"] for image in json.loads(outcome.json.read_text())["images"]] == list("01234")


def test_frames_of_a_video_are_not_done_twice(predictor, tmp_path, monkeypatch, segmented):
    (tmp_path / "clip.mp4").write_bytes(b"video")
    Image.new("RGB", (8, 6)).save(tmp_path / "clip.png")  # of the same name
    broken = [True]

    def read(path, *, every):
        yield from ((number, np.full((6, 8, 3), number, np.uint8)) for number in range(3))
        if broken:
            raise ValueError(f"{path} is damaged")
        yield 3, np.full((6, 8, 3), 3, np.uint8)

    monkeypatch.setattr(sources_module, "read_video", read)
    found = find_sources([tmp_path / "clip.mp4", tmp_path / "clip.png"])
    assert segment_files(predictor, found, WORDS, tmp_path / "out").images == 4
    broken.clear()
    segmented.clear()
    for done in (4, 5):
        outcome = segment_files(predictor, found, WORDS, tmp_path / "out")
        assert (outcome.images, outcome.resumed, segmented, outcome.failures) == (5, done, [1], {})
    ids = [image["id"] for image in json.loads(outcome.json.read_text())["images"]]
    assert ids == ["clip/000000", "clip/000001", "clip/000002", "clip/000003", "clip"]


def test_a_full_disk_leaves_no_half_of_a_line_and_no_results_without_a_record(predictor, images, tmp_path):
    class Full:
        """A file that takes 10 more bytes."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if (free := 10 - self.file.tell() % 1000) <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data[:free])

    journal = Journal(tmp_path, "panoptic", 0)
    (source,) = find_sources([SAMPLE])
    journal.begin({}, [source], overwrite=False)
    journal.open()
    journal._part = Full(journal._part)
    with pytest.raises(OSError, match="No space left.*journal.part-0.jsonl"):
        journal.end(source, {}, 1)
    assert (tmp_path / "journal.part-0.jsonl").read_bytes() == b""


def test_an_image_whose_record_cannot_be_written_is_a_failure(predictor, images, tmp_path, monkeypatch):
    add = Journal.add

    def full(self, source, *arguments, **options):
        if source.name == "1":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "journal")
        add(self, source, *arguments, **options)

    monkeypatch.setattr(Journal, "add", full)
    outcome = segment_files(predictor, find_sources([images]), WORDS, tmp_path / "out")
    assert outcome.images == 4
    assert outcome.failures == {str(images / "1.png"): "its record cannot be written (No space left on device)."}
    assert not list((tmp_path / "out").rglob("1.*"))


def test_two_processes_share_the_files_and_write_what_one_writes(predictor, images, tmp_path, two_processes):
    (images / "bad.png").write_text("none")
    found = find_sources([images])
    alone = segment_files(predictor, found, WORDS, tmp_path / "one")

    def work():
        from possam.d2.utils import comm

        outcome = segment_files(predictor, found, WORDS, tmp_path / "two", workers=1)
        assert (outcome.images, outcome.resumed) == (5, 0) and outcome.failures == alone.failures
        with pytest.raises(ValueError, match="do not work on the same: process 0 has 6 files and process 1 5"):
            segment_files(predictor, found[comm.get_rank() :], WORDS, tmp_path / "three")
        with pytest.raises(ValueError, match="output .* is not shared: process 1 on .* does not see what process 0"):
            segment_files(predictor, found, WORDS, tmp_path / f"own-{comm.get_rank()}")
        with pytest.raises(ValueError, match="other settings: ensemble"):
            segment_files(predictor, found, WORDS, tmp_path / "two", ensemble="clip")

    two_processes(work)
    assert len(alone.failures) == 1 and files(tmp_path / "two") == files(tmp_path / "one")


def test_the_command_as_torchrun_starts_it(images, tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    words = ["segment", str(images), "--classes", "tile: stuff, snow: stuff", "--output"]
    assert main([*words, str(tmp_path / "one")]) == 0
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = []
    for rank in ("0", "1"):
        if not (child := os.fork()):
            code = 99
            try:
                os.environ.update(shared, RANK=rank, LOCAL_RANK=rank)
                code = main([*words, str(tmp_path / "two")])
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert capfd.readouterr().out.count("5 images; overlays") == 2  # of one run each, not of each process
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_a_gpu_by_number_is_refused_where_each_process_takes_its_own(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["segment", "--sample", "--device", "cuda:1", "--output", str(tmp_path)]
    assert main(words) == 1 and "each process takes the GPU of its number" in capsys.readouterr().err
