from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import register_from_config

pytestmark = pytest.mark.usefixtures("clean_catalogs")

ROOTS = {"image_root": "image", "label_root": "panoptic"}


def test_panoptic_datasets(dataset, vocabulary_file):
    paths = {key: str(value) for key, value in dataset["paths"].items()}
    names = register_from_config(
        [{"name": "one", **paths, "vocabulary": vocabulary_file}, {"name": "two", **paths, "vocabulary": ""}]
    )
    assert names == ["one", "two"]
    assert MetadataCatalog.get("one").vocabulary.name == "made_up"
    assert MetadataCatalog.get("two").vocabulary.name == "two"
    assert len(DatasetCatalog.get("two")) == 2


def test_semantic_datasets(tmp_path, vocabulary_file):
    for folder, name in (("photos", "a_leaf.png"), ("labels", "a_class.tif")):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / folder / name)
    entry = {
        "name": "leaves",
        "image_root": str(tmp_path / "photos"),
        "label_root": str(tmp_path / "labels"),
        "vocabulary": vocabulary_file,
        "ignore_label": 7,
        "image_suffix": "_leaf.png",
        "label_suffix": "_class.tif",
    }
    assert register_from_config([entry], "SEMANTIC") == ["leaves"]
    (record,) = DatasetCatalog.get("leaves")
    assert (record["image_id"], record["height"], record["width"]) == ("a", 4, 6)
    metadata = MetadataCatalog.get("leaves")
    assert (metadata.tasks, metadata.ignore_label) == (("semantic",), 7)
    assert metadata.vocabulary.display_names == ("disc", "grass", "star")
    with pytest.raises(ValueError, match="'leaves' is registered already with another ignore_label"):
        register_from_config([{**entry, "ignore_label": 255}], "SEMANTIC")


def test_bad_entries_are_refused(dataset):
    paths = {key: str(value) for key, value in dataset["paths"].items()}
    with pytest.raises(
        ValueError, match=r"PANOPTIC\[0\] has the unknown key 'image_rot'.*Did you mean 'image_root'"
    ):
        register_from_config([{"name": "one", "image_rot": "x", **paths}])
    with pytest.raises(ValueError, match=r"PANOPTIC\[1\] \(two\) lacks \['panoptic_json'\]"):
        register_from_config([{"name": "one", **paths}, {"name": "two", **{**paths, "panoptic_json": ""}}])
    with pytest.raises(ValueError, match="must be a mapping"):
        register_from_config(["one"])
    with pytest.raises(ValueError, match=r"SEMANTIC\[0\] \(three\) lacks \['vocabulary'\]"):
        register_from_config([{"name": "three", "image_root": "a", "label_root": "b"}], "SEMANTIC")
    with pytest.raises(ValueError, match=r"SEMANTIC\[0\] has the unknown key 'panoptic_json'"):
        register_from_config([{"name": "three", "panoptic_json": "a"}], "SEMANTIC")
    with pytest.raises(ValueError, match=r"DATASETS.PANOPTIC must be a list of mappings"):
        register_from_config(None)
    with pytest.raises(ValueError, match=r"PANOPTIC\[0\]: vocabulary must be of type str, but is 3"):
        register_from_config([{"name": "one", "vocabulary": 3, **paths}])
    with pytest.raises(ValueError, match=r"PANOPTIC\[0\]: .*odd.json: categories must be a list"):
        (dataset["paths"]["panoptic_json"].parent / "odd.json").write_text('{"categories": 3}')
        odd = str(dataset["paths"]["panoptic_json"].parent / "odd.json")
        register_from_config([{"name": "one", **paths, "panoptic_json": odd}])


def test_the_home_folder_is_written_out_in_every_path(dataset, vocabulary_file, tmp_path, monkeypatch):
    def below_home(path):
        return f"~/{Path(path).relative_to(tmp_path)}"

    monkeypatch.setenv("HOME", str(tmp_path))
    paths = {key: below_home(value) for key, value in dataset["paths"].items()}
    words = below_home(vocabulary_file)
    register_from_config([{"name": "one", **paths, "vocabulary": words}, {"name": "two", **paths}])
    assert len(DatasetCatalog.get("one")) == len(DatasetCatalog.get("two")) == 2
    places = {key: below_home(dataset["paths"][f"{kind}_root"]) for key, kind in ROOTS.items()}
    register_from_config([{"name": "three", **places, "vocabulary": words}], "SEMANTIC")
    assert MetadataCatalog.get("three").image_root == str(dataset["paths"]["image_root"])
    assert MetadataCatalog.get("three").sem_seg_root == str(dataset["paths"]["panoptic_root"])


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", " ", "a\nb", "-x", "x" * 101])
def test_a_name_that_is_no_folder_of_results_is_refused(name):
    entry = {"name": name, "image_root": "i", "label_root": "l", "vocabulary": "ade20k_150"}
    with pytest.raises(ValueError, match=r"SEMANTIC\[0\]: name is .*results are kept in a folder of that name"):
        register_from_config([entry], "SEMANTIC")
