import json

import numpy as np
import pytest
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog, transforms
from possam.d2.modeling import build_model
from possam.data import register_semantic
from possam.data.datasets import SPECS
from possam.engine.config import load_config
from possam.engine.datasets import (
    build_test_mapper,
    check_queries,
    check_sources,
    check_test_queries,
    prepare_datasets,
)
from possam.engine.trainer import build_train_loader, training_records
from possam.evaluation import GroundTruth
from possam.models.parts import train_vocabulary_from_config
from possam.predict.predictor import Predictor
from possam.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def _clean_catalogs():
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


def make_labels(root, *, ignore_label=255):
    """One image of 128×96 (width×height): grass above, star below, nothing at the left edge."""
    labels = np.zeros((96, 128), dtype=np.uint8)
    labels[48:] = 1
    labels[:, :8] = ignore_label
    for folder in ("photos", "labels"):
        (root / folder).mkdir(exist_ok=True)
        Image.fromarray(labels).save(root / folder / "a.png")
    words = Vocabulary.from_names(["grass", "star"], isthing=[False, True], name="made_up")
    return {"image_root": root / "photos", "label_root": root / "labels", "vocabulary": words, "image_suffix": ".png"}


def test_all_datasets_are_known(mini_config):
    assert {"mini_a_train", *SPECS} <= set(DatasetCatalog.list())


def test_unknown_datasets_are_refused(mini_config):
    mini_config.defrost()
    mini_config.DATASETS.TEST = ("ade20k_panoptic",)
    with pytest.raises(ValueError, match=r"TEST names the unknown dataset 'ade20k_panoptic'.*'ade20k_panoptic_val'"):
        prepare_datasets(mini_config)


SHORTEST = ["INPUT.RESIZE_TEST", "shortest_edge", "INPUT.MIN_SIZE_TEST", "48", "INPUT.MAX_SIZE_TEST", "100",
            "INPUT.PAD_TO_SQUARE", "False", "INPUT.CACHE_FEATURES", "False", "TEST.BATCH_SIZE", "1"]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "expected"),
    [([], (48, 96)), (["TEST.AUG.ENABLED", "True", "TEST.AUG.SCALES", "[0.5, 1.5]"], (72, 144))],
)
def test_test_time_resize_by_the_shorter_side(more, expected):
    mapper = build_test_mapper(load_config("configs/mini/possam.yaml", [*SHORTEST, *more]), Vocabulary.load("mini_b"))
    inputs = transforms.AugInput(np.zeros((100, 200, 3), np.uint8))
    mapper.augmentations(inputs)
    assert inputs.image.shape[:2] == expected


def test_a_saved_model_keeps_its_test_time_resize(tmp_path):
    cfg = load_config("configs/mini/possam.yaml", [*SHORTEST, "MODEL.TEXT_CACHE", ""])
    prepare_datasets(cfg)
    folder = build_model(cfg).save_pretrained(tmp_path / "model")
    predictor = Predictor.from_pretrained(folder)
    assert predictor.model.shortest_edge == (48, 100)
    assert predictor._fit(np.zeros((100, 200, 3), np.uint8)).shape == (48, 96, 3)
    assert predictor(np.zeros((20, 44, 3), np.uint8), ["striped star"]).segmentation.shape == (20, 44)


def test_class_names_of_another_source(tmp_path, mini_config):
    for table in ("coco_panoptic", "cityscapes"):
        classes = [(one.dataset_id, one.names[0]) for one in Vocabulary.load(table).categories]
        ids = range(len(classes)) if table == "cityscapes" else [identifier for identifier, _ in classes]
        text = "\n".join(f"{number}:the {name},{name}" for number, (_, name) in zip(ids, classes, strict=True))
        (tmp_path / f"{table}_with_prompt_eng.txt").write_text(text)
    mini_config.defrost()
    mini_config.DATASETS.TRAIN = ("coco_panoptic_train",)
    mini_config.DATASETS.TEST = ("cityscapes_panoptic_val", "mini_b_report")
    mini_config.DATASETS.CLASS_NAMES = str(tmp_path)
    prepare_datasets(mini_config)
    train, test = (GroundTruth(name).vocabulary for name in ("coco_panoptic_train", "cityscapes_panoptic_val"))
    assert train.name == "coco_panoptic_fcclip" and train.categories[0].names == ("the person", "person")
    assert train_vocabulary_from_config(mini_config) == train and test.name == "cityscapes_fcclip"
    assert test.seen(train) == test.exact_overlap(train)
    assert test.overlap(train) is None, "the package's division is of other names"
    others = {name: GroundTruth(name).vocabulary.name for name in ("coco_panoptic_val", "mini_b_report")}
    assert others == {"coco_panoptic_val": "coco_panoptic", "mini_b_report": "mini_b"}
    mini_config.DATASETS.CLASS_NAMES = ""
    prepare_datasets(mini_config)
    assert GroundTruth("cityscapes_panoptic_val").vocabulary.name == "cityscapes"


def test_training_on_label_maps(mini_config, tmp_path):
    register_semantic("made_up", **make_labels(tmp_path, ignore_label=9), ignore_label=9)
    mini_config.defrost()
    mini_config.DATASETS.TRAIN = ("made_up",)
    mini_config.MODEL.TRAIN_VOCABULARY = ""
    mini_config.SOLVER.IMS_PER_BATCH = 1
    mini_config.DATALOADER.NUM_WORKERS = 0
    (sample,) = next(iter(build_train_loader(mini_config, training_records(mini_config), None)))
    assert sample["instances"].gt_classes.tolist() == [0, 1]
    assert sample["instances"].gt_masks.tensor.sum((1, 2)).tolist() == [48 * 120, 48 * 120]


def test_training_datasets_keep_their_ignore_labels(mini_config, tmp_path):
    for name, ignored in (("one", 255), ("two", 9)):
        (tmp_path / name).mkdir()
        register_semantic(name, **make_labels(tmp_path / name, ignore_label=ignored), ignore_label=ignored)
    mini_config.defrost()
    mini_config.DATASETS.TRAIN = ("one", "two")
    mini_config.SOLVER.IMS_PER_BATCH, mini_config.DATALOADER.NUM_WORKERS = 2, 0
    for sample in next(iter(build_train_loader(mini_config, training_records(mini_config), None))):
        assert sample["instances"].gt_masks.tensor.sum((1, 2)).tolist() == [48 * 120, 48 * 120]


def own_set(root, name, categories, boxes=((1, 7),)):
    """An entry of DATASETS.PANOPTIC: one image of 128×96 with rows of segments (id, category id)."""
    ids = np.zeros((96, 128, 3), dtype=np.uint8)
    for row, (number, _) in enumerate(boxes):
        ids[row * 3 : row * 3 + 3, :, 0] = number
    for folder in ("images", "panoptic"):
        (root / name / folder).mkdir(parents=True)
        Image.fromarray(ids).save(root / name / folder / "a.png")
    segments = [{"id": number, "category_id": category, "iscrowd": 0} for number, category in boxes]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 96, "width": 128}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": categories,
    }
    path = root / name / "panoptic.json"
    path.write_text(json.dumps(content))
    folders = {key: str(root / name / key.removesuffix("_root").replace("image", "images")) for key in ROOTS}
    return {"name": name, "panoptic_json": str(path), **folders}


ROOTS = ("image_root", "panoptic_root")
FIELD = [{"id": 0, "name": "soil", "isthing": 0}, {"id": 7, "name": "crop", "isthing": 1}]


def train_on(cfg, *entries):
    cfg.defrost()
    cfg.DATASETS.PANOPTIC = list(entries)
    cfg.DATASETS.TRAIN = tuple(entry["name"] for entry in entries)
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 2
    prepare_datasets(cfg)


def test_datasets_of_equal_classes_are_trained_on_together_by_any_name(mini_config, mini_model, tmp_path):
    other = [{**FIELD[0], "id": 3}, {**FIELD[1], "id": 1}]  # ids are a dataset's own
    north, south = own_set(tmp_path, "north", FIELD), own_set(tmp_path, "south", other, [(1, 1)])
    train_on(mini_config, north, south)
    records = training_records(mini_config)
    batch = next(iter(build_train_loader(mini_config, records, None)))
    assert [item["instances"].gt_classes.tolist() for item in batch] == [[1], [1]]
    assert batch[0]["vocabulary"] != batch[1]["vocabulary"]
    assert all(loss.isfinite() for loss in mini_model.train()(batch).values())


def test_datasets_of_other_classes_keep_their_own(mini_config, mini_model, tmp_path, caplog):
    weeds = [*FIELD, {"id": 8, "name": "weed", "isthing": 1}]
    train_on(mini_config, own_set(tmp_path, "north", FIELD), own_set(tmp_path, "south", weeds, [(1, 8)]))
    with caplog.at_level("INFO"):
        batch = next(iter(build_train_loader(mini_config, training_records(mini_config), None)))
    assert "north and south keep a vocabulary each: 2 and 3 classes." in caplog.text
    classes = {item["vocabulary"].name: item["instances"].gt_classes.tolist() for item in batch}
    assert classes == {"north": [1], "south": [2]}
    assert train_vocabulary_from_config(mini_config).name == "north"
    assert all(loss.isfinite() for loss in mini_model.train()(batch).values())
    batch[0]["vocabulary"], batch[1]["vocabulary"] = batch[1]["vocabulary"], batch[0]["vocabulary"]
    with pytest.raises(ValueError, match=r"has the classes \[2\], but its vocabulary 'north' has 0 to 1"):
        mini_model(batch)


LABELS = ("mini_a_train", "mini_b_labels")


@pytest.mark.parametrize(
    ("train", "weights", "message"),
    [
        (LABELS, [1.0], "TRAIN_WEIGHTS has 1 numbers, but DATASETS.TRAIN 2 datasets"),
        (LABELS[1:], [], "image labels and no masks, so that no mask would be learned"),
        (LABELS[::-1], [], "begins with mini_b_labels, .* put a dataset with masks first"),
    ],
)
def test_datasets_that_cannot_be_trained_on_together(mini_config, train, weights, message):
    mini_config.defrost()
    mini_config.DATASETS.TRAIN, mini_config.DATASETS.TRAIN_WEIGHTS = train, weights
    with pytest.raises(ValueError, match=message):
        training_records(mini_config)


def test_the_training_vocabulary_is_the_first_datasets(mini_config):
    mini_config.defrost()
    mini_config.DATASETS.TRAIN, mini_config.MODEL.TRAIN_VOCABULARY = LABELS, "mini_b"
    with pytest.raises(ValueError, match="classes of the first dataset of DATASETS.TRAIN, but mini_a_train and it"):
        check_sources(mini_config)
    mini_config.MODEL.TRAIN_VOCABULARY = "mini_a"
    found = check_sources(mini_config)
    assert [words.name for words in found.values()] == ["mini_a", "mini_b", "mini_a"]


@pytest.mark.parametrize("weights", ["[0.0, 1.0]", "[1.0, -1]", "[.nan, 1.0]", "[.inf, 1]", "['1', 2]", "[true, 1]"])
def test_weights_that_are_no_positive_numbers(tmp_path, weights):
    (tmp_path / "weights.yaml").write_text(f"DATASETS: {{TRAIN_WEIGHTS: {weights}}}")
    with pytest.raises(ValueError, match="DATASETS.TRAIN_WEIGHTS is .* must be a list of numbers above 0"):
        load_config(["configs/mini/possam.yaml", tmp_path / "weights.yaml"])


def test_more_segments_than_queries_are_told(mini_config, tmp_path, caplog):
    many = [(number, 7) for number in range(1, 31)]
    entries = [own_set(tmp_path, "few", FIELD, many[:24]), own_set(tmp_path, "many", FIELD, many)]
    train_on(mini_config, *entries)
    check_queries(mini_config, training_records(mini_config)[:1])
    assert "QUERIES" not in caplog.text
    check_queries(mini_config, training_records(mini_config))
    check_test_queries(mini_config, "many", training_records(mini_config))
    key = "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"
    assert f"many: 1 of 2 images have more segments than the 24 queries of {key}, at most 30" in caplog.text
    assert "1 of 2 training images have more segments than the 24 queries" in caplog.text
    assert caplog.text.count("Set MODEL.MASK_FORMER.NUM_OBJECT_QUERIES 30") == 1
    caplog.clear()
    crowds = [{"iscrowd": 1}] * 30
    check_queries(mini_config, [{"annotations": crowds}, {"sem_seg_file_name": "a.png"}, {"segments_info": crowds}])
    assert not caplog.text
