"""Room on the disk, many failures, and notes of an unfinished JSON."""

import errno
import json
import os
from collections import namedtuple

import pytest

from possam.data.preparation import PREPARATIONS, ade20k_instance, runner
from possam.data.preparation.plan import Plan, Report, Task
from tests.layouts import make_ade20k

Usage = namedtuple("Usage", "total used free")


def test_a_disk_that_is_too_small_is_said_before_any_work(fresh, monkeypatch):
    root = fresh("ade20k_semantic")
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda path: Usage(10, 10, 100))
    with pytest.raises(ValueError, match=r"about 0\.00 GB are to be written, but 0\.00 GB are free at .*; make room"):
        PREPARATIONS["ade20k_semantic"].run(root)
    assert not (root / "ADEChallengeData2016/annotations_detectron2").exists()
    monkeypatch.undo()
    PREPARATIONS["ade20k_semantic"].run(root)
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda path: Usage(10, 10, 0))
    assert PREPARATIONS["ade20k_semantic"].run(root).written == 0, "what is there needs no room"


def plan_of(tmp_path, work, count):
    (tmp_path / "source").write_bytes(b"x")
    tasks = [Task(str(n), (tmp_path / "source",), (tmp_path / f"{n}.png",)) for n in range(count)]
    return Plan(tasks=tasks, work=work, is_whole=lambda task: False)


def test_a_disk_that_fills_up_stops_the_run(tmp_path):
    done = []

    def work(task):
        done.append(task.key)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ValueError, match="0: .*No space left on device.*make room"):
        runner.run_plans([plan_of(tmp_path, work, 5)], processes=1, progress=None, overwrite=False)
    assert done == ["0"]


def test_many_wrong_files_are_named_together_and_stop_the_run(tmp_path):
    done = []

    def work(task):
        done.append(task.key)
        raise ValueError(f"file {task.key} is wrong")

    with pytest.raises(ValueError) as error:
        runner.run_plans([plan_of(tmp_path, work, 3)], processes=1, progress=None, overwrite=False)
    lines = str(error.value).splitlines()
    assert lines == ["3 of 3 images are wrong:", *(f"file {n} is wrong" for n in range(3))]
    done.clear()
    with pytest.raises(ValueError, match="20 of 50 images are wrong, and the run was stopped"):
        runner.run_plans([plan_of(tmp_path, work, 50)], processes=1, progress=None, overwrite=False)
    assert len(done) == 20


def test_reports_add_up_and_read_well():
    assert Report(1, 2) + Report(0, 3) == Report(1, 5)
    assert str(Report(1, 0)) == "wrote 1 file"
    assert str(Report(2000, 1)) == "wrote 2,000 files; 1 were there already"
    assert str(Report(0, 1234)) == "nothing to do: all 1,234 files are there already"


def test_notes_of_a_stopped_run_are_used_while_the_sources_stay(tmp_path, monkeypatch):
    make_ade20k(tmp_path, images=4)
    read = []
    original = ade20k_instance.read_instances
    monkeypatch.setattr(ade20k_instance, "read_instances", lambda path: read.append(path.stem) or original(path))

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    run = PREPARATIONS["ade20k_instance"].run
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, splits=["val"], progress=stop)
    folder = tmp_path / "ADEChallengeData2016"
    notes = folder / ".ade20k_instance_val.json.unfinished"
    assert len(notes.read_text().splitlines()) == 3
    assert not (folder / "ade20k_instance_val.json").exists()
    # As a killed run leaves it: half a line; and one source that was unpacked anew.
    notes.write_text(notes.read_text()[:-20])
    changed = folder / "annotations_instance/validation/ADE_val_00000001.png"
    changed.write_bytes(changed.read_bytes() + b"\0")
    read.clear()
    run(tmp_path, splits=["val"])
    assert read == ["ADE_val_00000001", "ADE_val_00000003", "ADE_val_00000004"]
    assert not notes.exists()
    content = json.loads((folder / "ade20k_instance_val.json").read_text())
    assert [image["id"] for image in content["images"]] == [f"ADE_val_{n:08d}" for n in range(1, 5)]
    assert [annotation["id"] for annotation in content["annotations"]] == list(range(1, 9))


def test_what_a_killed_run_began_to_write_is_removed(fresh):
    folder = fresh("ade20k_semantic") / "ADEChallengeData2016/annotations_detectron2/validation"
    folder.mkdir(parents=True)
    old, young = folder / ".a.png.x.tmp", folder / ".b.png.x.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    PREPARATIONS["ade20k_semantic"].run(folder.parents[2])
    assert not old.exists() and young.exists(), "another run may be writing it"
