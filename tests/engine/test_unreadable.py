"""Files that do not decode: training draws other images in their place, evaluation names them."""

import itertools
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import SegmentationMapper, build_augmentations, write_id_map
from possam.data.pictures import UnreadableFile
from possam.engine.resume import Draw, SeededSamples
from possam.engine.trainer import build_test_loader, build_train_loader
from possam.engine.unreadable import ReadableSamples
from possam.vocabulary import Vocabulary

WORDS = Vocabulary.from_names(["grass", "star"], isthing=[False, True], name="made_up")
IMAGES = 6


@pytest.fixture
def records(tmp_path):
    """Six images of noise, of 40×30 (width×height); half of each is grass."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(IMAGES):
        suffix = ("jpg", "png")[number % 2]
        photo, png = tmp_path / f"{number}.{suffix}", tmp_path / f"p{number}.png"
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(photo)
        ids = np.zeros((30, 40), np.int64)
        ids[:15] = 70_000 + number
        write_id_map(png, ids)
        segments = [{"id": 70_000 + number, "category_id": 0, "isthing": False, "iscrowd": False}]
        sizes = {"image_id": number, "height": 30, "width": 40}
        made.append({**sizes, "file_name": str(photo), "pan_seg_file_name": str(png), "segments_info": segments})
    return made


def cut(path, share=0.5):
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[: int(len(data) * share)])


def samples(records, limit=0.9):
    augmentations = build_augmentations(image_size=32, is_train=True)
    mapper = SegmentationMapper(augmentations=augmentations, is_train=True, vocabulary=WORDS)
    return ReadableSamples(SeededSamples(records, mapper), limit=limit)


@pytest.mark.parametrize(
    ("image", "key", "share"),
    [(0, "file_name", 0.5), (1, "file_name", 0.5), (2, "file_name", 0), (3, "pan_seg_file_name", 0.5)],
    ids=["truncated JPEG", "truncated PNG", "empty file", "truncated panoptic PNG"],
)
def test_another_image_takes_the_place(records, caplog, image, key, share):
    cut(records[image][key], share)
    others = set()
    for number in range(12):
        sample = samples(records)[Draw(image, 7, number)]
        assert sample["image_id"] != image
        there = samples(records)[Draw(sample["image_id"], 7, number)]  # the draw's own scale and crop
        assert torch.equal(sample["image"], there["image"])
        again = samples(records)[Draw(image, 7, number)]
        assert sample["image_id"] == again["image_id"] and torch.equal(sample["image"], again["image"])
        others.add(sample["image_id"])
    assert len(others) > 2
    assert f"{records[image][key]} does not decode" in caplog.text


def test_what_can_be_read_stays(records, caplog):
    given = samples(records)
    assert [given[Draw(number, 3, number)]["image_id"] for number in range(IMAGES)] == list(range(IMAGES))
    assert not [entry for entry in caplog.records if entry.levelname == "WARNING"] and given.unreadable == 0


@pytest.mark.parametrize(("key", "value"), [("height", 31), ("segments_info", [])])
def test_what_disagrees_is_an_error(records, key, value):
    records[1][key] = value
    with pytest.raises(ValueError, match=r"1\.png") as caught:
        samples(records)[Draw(1, 7, 0)]
    assert not isinstance(caught.value, UnreadableFile)


def test_missing_files_are_errors(records):
    with pytest.raises(FileNotFoundError, match="none.jpg does not exist"):
        samples([{**records[0], "file_name": "none.jpg"}])[Draw(0, 7, 0)]


def test_a_limit_of_nothing_makes_the_first_an_error(records):
    cut(records[2]["file_name"])
    with pytest.raises(ValueError, match=r"2\.jpg does not decode .* DATALOADER.MAX_UNREADABLE"):
        samples(records, limit=0.0)[Draw(2, 7, 0)]


def stand_in(bad):
    """Samples that are the numbers of their images; those that `bad` is true of cannot be read."""

    class Samples(SimpleNamespace):
        def __len__(self):
            return 1000

        def __getitem__(self, draw):
            if bad(draw):
                raise UnreadableFile(f"image {draw.image}.jpg does not decode (gone).")
            return draw.image

    return Samples()


def draw_many(given, count):
    return [given[Draw(number % 1000, 5, number)] for number in range(count)]


def test_more_than_the_limit_end_the_training():
    given = ReadableSamples(stand_in(lambda draw: draw.image < 20), limit=0.01)
    draw_many(given, 10)  # ten of ten are too few to tell
    with pytest.raises(ValueError, match=r"image \d+.jpg does not decode.* 11 of the \d+ images .* 0.01 allows"):
        draw_many(given, 20)
    given = ReadableSamples(stand_in(lambda draw: draw.image % 200 == 0), limit=0.01)
    assert len(draw_many(given, 4000)) == 4000 and given.unreadable > 10


@pytest.mark.parametrize("limit", [0.0, 0.5, 1.0])
def test_training_ends_where_nothing_can_be_read(limit):
    with pytest.raises(ValueError, match="does not decode" if limit < 1 else "100 images drawn one after the other"):
        draw_many(ReadableSamples(stand_in(lambda draw: True), limit=limit), 20)


def test_the_log_has_few_lines_and_names_what_is_new(caplog):
    caplog.set_level(logging.WARNING)
    draw_many(ReadableSamples(stand_in(lambda draw: draw.image % 2 == 0), limit=1.0), 1000)
    lines = [record.getMessage() for record in caplog.records]
    assert 5 < len(lines) <= 11
    assert "1 of the 1 images" in lines[0] and "image 0.jpg" in lines[0]


def test_loading_processes_draw_the_same_others(records, mini_config):
    cfg = mini_config.clone()
    cfg.defrost()
    cfg.INPUT.AUGMENTATION, cfg.INPUT.CACHE_FEATURES, cfg.INPUT.IMAGE_SIZE = "lsj", False, 32
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.MAX_UNREADABLE, cfg.SEED = 2, 0.9, 4
    cut(records[1]["file_name"])
    cut(records[4]["pan_seg_file_name"])

    def batches(workers, skip):
        cfg.DATALOADER.NUM_WORKERS = workers
        of_dataset = [{**record, "dataset": cfg.DATASETS.TRAIN[0]} for record in records]
        loader = build_train_loader(cfg, of_dataset, None)
        loader.skip(2 * skip)
        taken = itertools.chain.from_iterable(itertools.islice(loader, 8 - skip))
        return [(item["image_id"], item["image"], item["instances"].gt_masks.tensor) for item in taken]

    whole = batches(0, 0)
    assert {one[0] for one in whole} == {0, 2, 3, 5}
    for given, expected in ((batches(2, 0), whole), (batches(1, 3), whole[6:])):
        for one, other in zip(given, expected, strict=True):
            assert one[0] == other[0] and torch.equal(one[1], other[1]) and torch.equal(one[2], other[2])


def test_evaluation_names_the_file(records, mini_config):
    """Each image counts, so none is left out."""
    cut(records[2]["file_name"])
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    DatasetCatalog.register("made_up", lambda: records)
    MetadataCatalog.get("made_up").set(vocabulary=WORDS, thing_classes=[])
    try:
        loader = build_test_loader(mini_config, "made_up")
        with pytest.raises(ValueError, match=r"2\.jpg does not decode"):
            list(loader)
    finally:
        DatasetCatalog.data, MetadataCatalog.data = before
