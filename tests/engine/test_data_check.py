"""What is wrong with the files of a dataset ends a training before it starts, in all its processes."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from possam.cli import job
from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.d2.utils import comm
from possam.data import write_id_map
from possam.engine import Trainer, load_config, trainer
from possam.engine import data_check as module
from possam.engine.data_check import check_class_names, check_data, check_tasks, check_test_sets
from possam.engine.trainer import build_test_loader, training_records
from possam.vocabulary import Vocabulary

WORDS = Vocabulary.from_names(["grass", "star"], isthing=[False, True], name="made_up")
LONG = Vocabulary.from_names(["grass", "very " * 90 + "long"], isthing=[False, True], name="made_up")
IMAGES = 12


def make_records(root):
    """Twelve images of 40×30 (width×height); grass above, and of the last one a label map instead."""
    made = []
    for number in range(IMAGES):
        photo, png = root / f"{number}.jpg", root / f"p{number}.png"
        Image.fromarray(np.full((30, 40, 3), 9 * number, np.uint8)).save(photo)
        ids = np.zeros((30, 40), np.int64)
        ids[:15] = 70_000 + number
        write_id_map(png, ids)
        segments = [{"id": 70_000 + number, "category_id": 0, "isthing": True, "iscrowd": False}]
        sizes = {"image_id": number, "height": 30, "width": 40, "file_name": str(photo)}
        made.append({**sizes, "pan_seg_file_name": str(png), "segments_info": segments})
    Image.fromarray(ids.clip(0, 1).astype(np.uint8)).save(root / "labels.png")
    made[-1] = {**sizes, "sem_seg_file_name": str(root / "labels.png")}
    return made


def register(records):
    DatasetCatalog.register("made_up", lambda: records)
    MetadataCatalog.get("made_up").set(vocabulary=WORDS, thing_classes=[], ignore_label=255)


@pytest.fixture
def records(tmp_path):
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    made = make_records(tmp_path)
    register(made)
    yield made
    DatasetCatalog.data, MetadataCatalog.data = before


def configure(folder, check="full"):
    settings = ["INPUT.FEATURE_CACHE_DIR", f"{folder}/features", "OUTPUT_DIR", f"{folder}/run", "DATASETS.CHECK", check]
    return load_config("configs/mini/possam.yaml", settings)


@pytest.fixture
def check(records, tmp_path):
    def run(how="full", limit=0.9):
        check_data(configure(tmp_path, how), ["made_up"], records, limit=limit)

    return run


def cut(path):
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])


def test_sound_files_pass_and_are_not_opened_again(check, records, monkeypatch, caplog):
    opened = []
    look = module.examine_records
    monkeypatch.setattr(module, "examine_records", lambda *a, **options: opened.append(1) or look(*a, **options))
    for how in ("sizes", "sizes", "full", "full", "sizes", "none"):
        check(how)
    assert len(opened) == 2, "once for the sizes, and once for the ids"
    Image.fromarray(np.ones((30, 40, 3), np.uint8)).save(records[3]["file_name"])
    check()
    assert len(opened) == 3 and "cannot be read" not in caplog.text


FAULTS = {
    "size of the image": (lambda r: r.update(height=31), "sizes", r"3\.jpg: image 40×30.* JSON 40×31|p3\.png: image"),
    "size of the PNG": (
        lambda r: write_id_map(r["pan_seg_file_name"], np.zeros((8, 8), np.int64)),
        "sizes",
        r"p3\.png: image 40×30, panoptic PNG 8×8",
    ),
    "id that only the PNG has": (lambda r: r.update(segments_info=[]), "full", r"does not list: p3\.png: 70003"),
    "id that only the record has": (
        lambda r: r["segments_info"].append({"id": 5, "category_id": 1, "isthing": True, "iscrowd": False}),
        "full",
        r"lack segment ids that the JSON lists: p3\.png: 5",
    ),
    "gray PNG": (
        lambda r: Image.new("L", (40, 30)).save(r["pan_seg_file_name"]),
        "sizes",
        r"must be RGB .*p3\.png: one channel",
    ),
    "run lengths of another size": (
        lambda r: r.update(annotations=[{"segmentation": {"size": [40, 30], "counts": [1200]}}]),
        "sizes",
        r"3\.jpg: \[40, 30\], expected \[30, 40\]",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_disagreements_are_errors_that_name_the_file(check, records, name):
    plant, how, message = FAULTS[name]
    plant(records[3])
    for _ in range(2):  # and are not taken for checked at the next start
        with pytest.raises(ValueError, match=rf"made_up: files and annotations disagree(.|\n)*({message})"):
            check(how)
    check("none")
    if how == "full":
        check("sizes")


def test_label_maps_have_the_classes(check, records):
    Image.new("L", (40, 30), 7).save(records[-1]["sem_seg_file_name"])
    with pytest.raises(ValueError, match=r"labels\.png: 7 \(1,200 pixels\)"):
        check()


def test_unreadable_files_are_warnings_at_every_start(check, records, caplog):
    caplog.set_level(logging.WARNING)
    cut(records[2]["file_name"])
    cut(records[4]["pan_seg_file_name"])
    for _ in range(2):
        caplog.clear()
        check()
        assert "2 files cannot be read" in caplog.text
        assert "2.jpg" in caplog.text and "p4.png" in caplog.text
    with pytest.raises(ValueError, match=r"made_up: 2 files of 12 images cannot be read(.|\n)*2\.jpg"):
        check(limit=0)


def test_too_many_unreadable_files_are_an_error(check, records):
    for record in records:
        cut(record["file_name"])
    with pytest.raises(ValueError, match="12 files of 12 images cannot be read, more than 0.9 of them"):
        check()


def test_missing_files_are_errors(check, records):
    Path(records[5]["file_name"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"5\.jpg does not exist"):
        check()


def test_a_folder_that_cannot_be_written_costs_the_memory_alone(check, tmp_path, caplog):
    (tmp_path / "checked").write_text("in the way")
    check()
    assert "will look at all files again" in caplog.text


def test_a_damaged_note_is_made_anew(check, tmp_path):
    check()
    (note,) = (tmp_path / "checked").iterdir()
    note.write_text("{")
    check()
    assert "unreadable" in note.read_text()


def _two(folder):
    register(make_records(Path(folder)) if comm.is_main_process() else [])
    comm.synchronize()
    records = [{"file_name": "elsewhere.jpg", "height": 1, "width": 1}]
    if comm.is_main_process():
        records = DatasetCatalog.get("made_up")
        records[3]["height"] = 31
    with pytest.raises(ValueError, match="disagree") as caught:
        check_data(configure(folder), ["made_up"], records, limit=0.9)
    Path(folder, f"{comm.get_rank()}.txt").write_text(str(caught.value), encoding="utf-8")


def test_all_processes_stop_with_the_same_error(two_processes, tmp_path):
    two_processes(_two, str(tmp_path))
    first, second = ((tmp_path / f"{rank}.txt").read_text(encoding="utf-8") for rank in range(2))
    assert first == second and "3.jpg" in first


def test_a_training_does_not_start(records, mini_config):
    mini_config.defrost()
    mini_config.DATASETS.TRAIN, mini_config.DATASETS.TEST = ("made_up",), ()
    mini_config.MODEL.TRAIN_VOCABULARY = ""
    records[3]["segments_info"] = []
    with pytest.raises(ValueError, match=r"p3\.png: 70003"):
        Trainer(mini_config)


def test_the_tasks_of_a_test_set_are_looked_at_without_files(records, tmp_path):
    cfg = configure(tmp_path)
    cfg.DATASETS.TEST = ("made_up",)
    MetadataCatalog.get("made_up").set(tasks=("semantic",))
    DatasetCatalog.remove("made_up")
    DatasetCatalog.register("made_up", lambda: pytest.fail("the records were read"))
    check_tasks(cfg)
    cfg.TEST.TASKS = ["panoptic"]
    with pytest.raises(ValueError, match=r"'made_up' has annotations for \['semantic'\].*TEST.TASKS"):
        check_tasks(cfg)


def test_a_set_without_images_is_named(records, mini_config, caplog):
    mini_config.defrost()
    mini_config.DATASETS.TEST = ("made_up",)
    check_test_sets(mini_config)
    assert "training images" not in caplog.text
    records.clear()
    with pytest.raises(ValueError, match="DATASETS.TEST has 'made_up', which has no images"):
        check_test_sets(mini_config)
    mini_config.DATASETS.TRAIN, mini_config.MODEL.TRAIN_VOCABULARY = ("made_up",), ""
    for read in (lambda: training_records(mini_config), lambda: build_test_loader(mini_config, "made_up")):
        with pytest.raises(ValueError, match=r"The dataset made_up has no images"):
            read()


def test_a_test_set_that_is_trained_on_is_told(records, mini_config, caplog):
    mini_config.defrost()
    mini_config.DATASETS.TRAIN = mini_config.DATASETS.TEST = ("made_up",)
    check_test_sets(mini_config)
    assert "made_up is in DATASETS.TRAIN and DATASETS.TEST: its scores are those of training images" in caplog.text


def test_class_names_that_clip_cannot_read_are_named_with_their_dataset(records, mini_config, mini_model):
    mini_config.defrost()
    mini_config.DATASETS.TEST = ("made_up",)
    check_class_names(mini_config, mini_model)
    mini_config.DATASETS.TEST = ("made_up", "long")
    MetadataCatalog.get("long").set(vocabulary=LONG)
    message = r"DATASETS.TEST, long: text is longer than CLIP's context.*very very"
    with pytest.raises(ValueError, match=message):
        check_class_names(mini_config, mini_model)
    mini_config.DATASETS.TEST = ()
    mini_model.train_vocabulary = LONG
    with pytest.raises(ValueError, match="The training vocabulary: text is longer"):
        check_class_names(mini_config, mini_model)


@pytest.mark.parametrize("work", [job._evaluate, Trainer], ids=["evaluate", "train"])
@pytest.mark.parametrize("fault", ["no images", "tasks", "names", "files"])
def test_a_test_set_that_cannot_be_scored_ends_both_jobs_at_the_start(work, fault, records, mini_config, monkeypatch):
    mini_config.defrost()
    mini_config.DATASETS.TRAIN, mini_config.DATASETS.TEST = ("made_up",), ("made_up_too",)
    mini_config.MODEL.TRAIN_VOCABULARY, mini_config.MODEL.WEIGHTS = "", "none.pth"
    facts = {"vocabulary": WORDS, "thing_classes": [], "ignore_label": 255, "tasks": ("panoptic",)}
    found = list(records)
    if fault == "no images":
        found = []
    elif fault == "tasks":
        facts["tasks"], mini_config.TEST.TASKS = ("semantic",), ["panoptic"]
    elif fault == "names":
        facts["vocabulary"] = LONG
    else:
        found[3] = {**found[3], "height": 31}
    DatasetCatalog.register("made_up_too", lambda: found)
    MetadataCatalog.get("made_up_too").set(**facts)
    for later in ("training_features", "build_train_loader"):
        monkeypatch.setattr(trainer, later, lambda *_: pytest.fail("work has begun"))
    monkeypatch.setattr(job.Checkpointer, "load", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match="made_up_too"):
        work(mini_config)
