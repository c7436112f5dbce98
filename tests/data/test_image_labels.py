"""Images with class labels: folders of classes, and files of labels."""

import json

import pytest
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import SegmentationMapper, build_augmentations, load_image_labels, register_from_config
from possam.data.image_labels import load_class_list
from possam.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("clean_catalogs")

WORDS = Vocabulary.from_names(["tench, Tinca tinca", "great white shark", "sofa"], name="words")


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8)).save(root / name)
    return root


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def labels_of(records):
    return {record["image_id"]: record["labels"] for record in records}


def test_a_folder_names_a_class(tmp_path):
    make(tmp_path, "Tinca tinca/a.JPEG", "great_white_shark/x/b.png", "great_white_shark/c.jpg")
    (tmp_path / "sofa").mkdir()
    records = load_image_labels(image_root=tmp_path, vocabulary=WORDS)
    shark = "great_white_shark"
    assert labels_of(records) == {"Tinca tinca/a.JPEG": [0], f"{shark}/c.jpg": [1], f"{shark}/x/b.png": [1]}
    assert (records[0]["height"], records[0]["width"]) == (8, 12)
    make(tmp_path, "soda/a.png")
    with pytest.raises(ValueError, match="soda is no class of the vocabulary 'words' .3 classes.*Did you mean 'sofa'"):
        load_image_labels(image_root=tmp_path, vocabulary=WORDS)
    make(tmp_path / "flat", "a.png")
    with pytest.raises(ValueError, match="lies in no folder of a class"):
        load_image_labels(image_root=tmp_path / "flat", vocabulary=WORDS)


def test_the_classes_of_imagenet_need_no_file(tmp_path):
    words = load_class_list("imagenet_1k")
    ids = [category.dataset_name for category in words.categories]
    assert len(ids) == len(set(ids)) == 1000 and ids == sorted(ids)  # ILSVRC2012 numbers classes by their WordNet ids
    known = {0: ("n01440764", "tench"), 388: ("n02510455", "giant panda"), 999: ("n15075141", "toilet paper")}
    assert {i: (ids[i], words.display_names[i]) for i in known} == known
    make(tmp_path, "n02510455/a.JPEG")
    assert labels_of(load_image_labels(image_root=tmp_path, vocabulary=words)) == {"n02510455/a.JPEG": [388]}


def test_class_folders_are_the_names_or_ids_of_a_class_index(tmp_path):
    make(tmp_path / "images", "n01/a.JPEG", "n02/b.JPEG")
    register_from_config([{"name": "plain", "image_root": str(tmp_path / "images")}], "IMAGE_LABELS")
    assert MetadataCatalog.get("plain").vocabulary.display_names == ("n01", "n02")
    index = write(tmp_path / "index.json", {"0": ["n02", "crane"], "1": ["n01", "tree_frog"], "2": ["n03", "crane"]})
    entry = {"name": "wordnet", "image_root": str(tmp_path / "images"), "vocabulary": str(index)}
    assert register_from_config([entry], "IMAGE_LABELS") == ["wordnet"]
    metadata = MetadataCatalog.get("wordnet")
    assert metadata.vocabulary.display_names == ("crane", "tree frog", "crane") and metadata.tasks == ("image_labels",)
    assert labels_of(DatasetCatalog.get("wordnet")) == {"n01/a.JPEG": [1], "n02/b.JPEG": [0]}
    write(index, {"0": ["n02", "crane"], "2": ["n01", "tree_frog"]})
    with pytest.raises(ValueError, match="class 1 is None.*the keys must be 0 to 1"):
        load_class_list(index)
    write(index, {"0": ["n02", "crane"], "1": ["n02", "tree_frog"]})
    with pytest.raises(ValueError, match="classes 0 and 1 have the same folder 'n02'"):
        load_class_list(index)


def test_multi_labels_in_the_order_of_imagenets_validation_images(tmp_path, caplog):
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5)]
    images = make(tmp_path / "val", names[0], f"n01/{names[1]}", names[2], names[3])
    real = write(tmp_path / "real.json", [[2, 0], [1], [], [1, 1]])
    with caplog.at_level("INFO"):
        records = load_image_labels(image_root=images, vocabulary=WORDS, labels=real)
    assert labels_of(records) == {names[0]: [0, 2], f"n01/{names[1]}": [1], names[3]: [1]}
    assert "1 of 4 images have no label and are left out" in caplog.text
    for content, error, message in (
        ([[0], [1], []], ValueError, "labels of 3 images, but there are 4"),
        ([[0]] * 5, FileNotFoundError, "labels of 5 images, of which 1 are not there: .ILSVRC2012_val_00000005.JPEG."),
        ([[0], [3], [], []], ValueError, "has the label 3, but .*'words' has the positions 0 to 2"),
        ([[0], 1, [], []], ValueError, "must have a list of labels, but has 1"),
        ("tench", ValueError, "holds a str"),
    ):
        with pytest.raises(error, match=message):
            load_image_labels(image_root=images, vocabulary=WORDS, labels=write(real, content))


def test_labels_by_file_name(tmp_path):
    images = make(tmp_path / "images", "a.png", "sub/b.png", "c.png")
    path = write(tmp_path / "labels.json", {"a.png": ["sofa", 0], "sub/b.png": ["tinca  tinca"]})
    entry = {"name": "own", "image_root": str(images), "labels": str(path)}
    with pytest.raises(ValueError, match=r"IMAGE_LABELS\[0\]: the labels of .* need a vocabulary"):
        register_from_config([entry], "IMAGE_LABELS")
    records = load_image_labels(image_root=images, vocabulary=WORDS, labels=path)
    assert labels_of(records) == {"a.png": [0, 2], "sub/b.png": [0]}
    with pytest.raises(FileNotFoundError, match="labels of 1 images that are not there: .d.png."):
        load_image_labels(image_root=images, vocabulary=WORDS, labels=write(path, {"d.png": [0]}))
    with pytest.raises(ValueError, match="has the label 'sofas'.*Did you mean 'sofa'"):
        load_image_labels(image_root=images, vocabulary=WORDS, labels=write(path, {"a.png": ["sofas"]}))
    with pytest.raises(FileNotFoundError, match="does not exist. Check image_root"):
        load_image_labels(image_root=tmp_path / "none", vocabulary=WORDS, labels=path)
    with pytest.raises(FileNotFoundError, match="has no folders, whose names would be the classes"):
        register_from_config([{"name": "none", "image_root": str(tmp_path / "none")}], "IMAGE_LABELS")


def test_a_training_sample_has_the_labels_and_no_masks(tmp_path):
    (record,) = load_image_labels(image_root=make(tmp_path, "sofa/a.png"), vocabulary=WORDS)
    mapper = SegmentationMapper(
        augmentations=build_augmentations(image_size=32, is_train=True), is_train=True, vocabulary=WORDS
    )
    sample = mapper(record)
    assert sample["labels"].tolist() == [2] and str(sample["labels"].dtype) == "torch.int64"
    assert "instances" not in sample and sample["vocabulary"] is WORDS
