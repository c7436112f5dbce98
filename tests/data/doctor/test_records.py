"""Records that training takes are not refused before it."""

import numpy as np
import pytest
from PIL import Image

from possam.data import load_panoptic, write_id_map
from possam.data.doctor import examine_records
from possam.data.doctor import records as module
from possam.vocabulary import Vocabulary


@pytest.fixture
def record(tmp_path):
    """One image of 24×16 (width×height), upright only by its EXIF orientation, whose stuff has no pixel."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 24)).save(tmp_path / "a.jpg", exif=exif)
    ids = np.zeros((16, 24), np.int64)
    ids[3:] = 2**24 - 1
    write_id_map(tmp_path / "a.png", ids)
    segments = [{"id": 2**24 - 1, "isthing": True}, {"id": 5, "isthing": False}]
    files = {"file_name": str(tmp_path / "a.jpg"), "pan_seg_file_name": str(tmp_path / "a.png")}
    return {**files, "height": 16, "width": 24, "segments_info": segments}


def look(*records, ignore_label=255, **options):
    return examine_records(records, classes=3, ignore_label=ignore_label, full=True, **options)


def test_turned_images_and_hidden_stuff_are_well(record):
    assert look(record) == []
    record["segments_info"][1]["isthing"] = True
    (problem,) = look(record)
    assert problem.kind == "segment ids" and "a.png: 5" in str(problem)


@pytest.mark.parametrize(("mode", "ignore_label"), [("L", 255), ("P", 255), ("I;16", 255), ("I;16", 65535)])
def test_label_maps_of_any_width_are_well(record, tmp_path, mode, ignore_label):
    labels = np.full((16, 24), 2, np.uint16 if mode == "I;16" else np.uint8)
    Image.fromarray(labels).convert(mode).save(tmp_path / "b.png")
    del record["pan_seg_file_name"]
    assert look({**record, "sem_seg_file_name": str(tmp_path / "b.png")}, ignore_label=ignore_label) == []


def test_label_maps_too_narrow_for_the_ignored_value_are_not(record, tmp_path):
    Image.new("L", (24, 16)).save(tmp_path / "b.png")
    (problem,) = look({**record, "sem_seg_file_name": str(tmp_path / "b.png")}, ignore_label=65535)
    assert problem.kind == "mode"


def test_several_processes_find_the_same(record, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WORTH_PROCESSES", 1)
    records = [record] * 100 + [{**record, "height": 17}] * 3
    done = []
    (problem,) = look(*records, processes=2, progress=lambda *count: done.append(count))
    assert problem.count == 3 and "JSON 24×17" in str(problem)
    assert done == [(64, 103), (103, 103)]


def test_coco_sample(coco_sample):
    records = load_panoptic(
        image_root=coco_sample / "input_images",
        panoptic_root=coco_sample / "panoptic_examples",
        panoptic_json=coco_sample / "panoptic_examples.json",
        vocabulary=Vocabulary.load("coco_panoptic"),
    )
    assert examine_records(records, classes=133, ignore_label=255, full=True) == []
