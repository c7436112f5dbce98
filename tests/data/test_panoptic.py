import copy
import json

import pytest

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import load_panoptic, register_panoptic
from possam.evaluation import panoptic_quality_from_files

pytestmark = pytest.mark.usefixtures("clean_catalogs")


def rewrite(dataset, change):
    content = copy.deepcopy(dataset["content"])
    change(content)
    dataset["paths"]["panoptic_json"].write_text(json.dumps(content))


def test_records_and_metadata(dataset):
    register_panoptic("made_up", **dataset["paths"])
    records = DatasetCatalog.get("made_up")
    assert [record["image_id"] for record in records] == [1, 2]
    assert records[0]["file_name"] == str(dataset["paths"]["image_root"] / "1.png")
    assert records[0]["pan_seg_file_name"] == str(dataset["paths"]["panoptic_root"] / "p1.png")
    assert (records[0]["height"], records[0]["width"]) == (16, 24)
    assert [s["category_id"] for s in records[0]["segments_info"]] == [1, 0, 2, 0]
    assert [s["isthing"] for s in records[0]["segments_info"]] == [False, True, True, True]
    assert [s["iscrowd"] for s in records[0]["segments_info"]] == [False, False, False, True]
    assert [s.get("area") for s in records[0]["segments_info"]] == [160, 52, 4, 24]
    metadata = MetadataCatalog.get("made_up")
    assert metadata.vocabulary.display_names == ("disc", "grass", "star")
    assert metadata.thing_classes == metadata.stuff_classes == ["disc", "grass", "star"]
    assert (metadata.tasks[0], metadata.ignore_label) == ("panoptic", 255)
    assert (metadata.tasks, metadata.federated) == (("panoptic", "semantic", "instance"), False)


def test_registering_twice(dataset, vocabulary, tmp_path):
    register_panoptic("made_up", **dataset["paths"], vocabulary=vocabulary)
    register_panoptic("made_up", **dataset["paths"], vocabulary=vocabulary)
    with pytest.raises(ValueError, match="'made_up' is registered already with another image_root"):
        register_panoptic("made_up", **{**dataset["paths"], "image_root": tmp_path}, vocabulary=vocabulary)


def test_files_may_come_after_registration(dataset, vocabulary, tmp_path):
    register_panoptic(
        "later", **{**dataset["paths"], "panoptic_json": tmp_path / "none.json"}, vocabulary=vocabulary
    )
    with pytest.raises(FileNotFoundError, match="none.json does not exist"):
        DatasetCatalog.get("later")


def _set(path, value):
    def change(content):
        target = content
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


def _drop(*path):
    def change(content):
        target = content
        for key in path[:-1]:
            target = target[key]
        del target[path[-1]]

    return change


SEGMENTS = ("annotations", 0, "segments_info")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("images"), r"keys \['images'\] are missing"),
        (_drop("annotations"), r"keys \['annotations'\] are missing"),
        (_drop("images", 1, "width"), r"images\[1\]: the keys \['width'\] are missing"),
        (_drop("annotations", 0, "file_name"), r"annotations\[0\]: the keys \['file_name'\]"),
        (_drop(*SEGMENTS, 2, "iscrowd"), r"image 1: segment 16777215: the keys \['iscrowd'\]"),
        (_set(("annotations", 1, "image_id"), 77), r"annotations name the image ids \[77\]"),
        (_set(("annotations", 1, "image_id"), 1), r"annotated image ids must be distinct, but \[1\]"),
        (_set(("images", 1, "id"), 1), r"image ids must be distinct, but \[1\]"),
        (_set(("annotations", 1, "file_name"), "p1.png"), r"PNG names .* but \[p1.png\] occur"),
        (
            _set((*SEGMENTS, 0, "category_id"), 8),
            r"image 1: category ids \[8\] are not in the vocabulary 'made_up'",
        ),
        (_set((*SEGMENTS, 0, "id"), 70_000), r"image 1: segment ids must be distinct, but \[70000\]"),
        (_set((*SEGMENTS, 0, "id"), 0), r"image 1: segment ids \[0\] are not integers in"),
        (_set((*SEGMENTS, 0, "id"), 2**24), r"segment ids \[16777216\] are not integers in"),
        (_set((*SEGMENTS, 0, "id"), True), r"segment ids \[True\] are not integers in"),
        (_set((*SEGMENTS, 0, "id"), [1]), r"segment ids \[\[1\]\] are not integers in"),
        (_set((*SEGMENTS, 0), None), r"image 1: segment 'number 0': expected an object"),
        (_set((*SEGMENTS, 0, "iscrowd"), "no"), r"image 1: segment \d+: iscrowd must be 0 or 1, but is 'no'"),
        (_set((*SEGMENTS, 0, "category_id"), [1]), r"segment 3: category_id must be a category's id.* \[1\]"),
        (_set((*SEGMENTS, 0, "category_id"), "9"), r"segment 3: category_id must be .*an integer, but is '9'"),
        (_set((*SEGMENTS, 0, "category_id"), True), r"segment 3: category_id must be .*an integer, but is True"),
        (_set((*SEGMENTS, 0, "area"), None), r"image 1: segment 3: area must be a number of pixels, but is None"),
        (_set((*SEGMENTS, 0, "area"), "160"), r"image 1: segment 3: area must be .* but is '160'"),
        (_set((*SEGMENTS, 0, "area"), 16 * 24 + 1), r"image 1: segment 3: the area 385 is more than the 384 pixels"),
        (_set((*SEGMENTS, 0, "bbox"), [0, 0, None, 1]), r"image 1: segment 3: bbox must be four numbers"),
        (
            _set(("annotations", 0, "image_id"), "1"),
            r"image ids \['1'\], which are not among its images; .* '1' and 1 differ: write ids as numbers everywhere",
        ),
        (_set(SEGMENTS, None), r"annotations\[0\].segments_info must be a list"),
        (_set(("images",), {"a": 1}), r"images must be a list"),
        (_set(("annotations",), None), r"annotations must be a list"),
        (_set(("images", 0, "id"), []), r"images\[0\].id must be an integer or a string"),
        (_set(("images", 0, "height"), None), r"images\[0\] has the height None"),
        (_set(("images", 0, "height"), float("inf")), r"images\[0\] has the height inf"),
        (_set(("images", 0, "width"), 10**9), r"images\[0\] has .* the width 1000000000"),
        (_set(("annotations", 0, "file_name"), 3), r"annotations\[0\].file_name must be the name of a file"),
        (_set(("images", 0, "file_name"), "a\ud800.png"), r"images\[0\].file_name must be .* 'a\\ud800.png'"),
    ],
)
def test_bad_annotations_are_refused(dataset, vocabulary, change, message):
    rewrite(dataset, change)
    with pytest.raises(ValueError, match=message) as caught:
        load_panoptic(**dataset["paths"], vocabulary=vocabulary)
    assert "panoptic.json" in str(caught.value)


@pytest.mark.parametrize(
    ("root", "file", "what"), [("image_root", "2.png", "images"), ("panoptic_root", "p2.png", "PNG")]
)
def test_missing_files_are_named(dataset, vocabulary, root, file, what):
    (dataset["paths"][root] / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 .*{what}.* are missing: .*{file}.*Check {root}"):
        load_panoptic(**dataset["paths"], vocabulary=vocabulary)


def test_missing_files_come_with_what_to_do(dataset, vocabulary):
    (dataset["paths"]["image_root"] / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 images .*2.png.*unpack them"):
        load_panoptic(**dataset["paths"], vocabulary=vocabulary, fix="Download and unpack them.")
    dataset["paths"]["panoptic_json"].unlink()
    with pytest.raises(FileNotFoundError, match=r"panoptic.json does not exist. Download and unpack them"):
        load_panoptic(**dataset["paths"], vocabulary=vocabulary, fix="Download and unpack them.")


def test_images_are_not_looked_for_where_only_annotations_matter(dataset, vocabulary):
    records = load_panoptic(**{**dataset["paths"], "image_root": None}, vocabulary=vocabulary, image_names="id")
    assert [record["file_name"] for record in records] == ["1.png", "2.png"]


def test_coco_sample(coco_sample):
    register_panoptic(
        "coco_sample",
        image_root=coco_sample / "input_images",
        panoptic_root=coco_sample / "panoptic_examples",
        panoptic_json=coco_sample / "panoptic_examples.json",
    )
    records = DatasetCatalog.get("coco_sample")
    assert [len(record["segments_info"]) for record in records] == [18, 32]
    assert [sum(s["iscrowd"] for s in record["segments_info"]) for record in records] == [1, 2]
    assert len(MetadataCatalog.get("coco_sample").vocabulary) == 133


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"categories\[1\].isthing must be 1 \(thing\) or 0 \(stuff\), but is None"),
        ("0", r"categories\[1\].isthing must be .* but is '0'"),
        ("false", r"categories\[1\].isthing must be .* but is 'false'"),
        (2, r"categories\[1\].isthing must be .* but is 2"),
        ("absent", r"panoptic.json: categories\[1\] \('grass'\) has no isthing, which .* requires: 1 for things, 0"),
    ],
)
def test_categories_must_say_what_is_a_thing(dataset, value, message):
    """Without it, sky and grass would become things."""
    change = _drop("categories", 1, "isthing") if value == "absent" else _set(("categories", 1, "isthing"), value)
    rewrite(dataset, change)
    with pytest.raises(ValueError, match=message):
        register_panoptic("made_up", **dataset["paths"])
    with pytest.raises(ValueError, match=message):
        panoptic_quality_from_files(
            ground_truth_json=dataset["paths"]["panoptic_json"],
            prediction_json=dataset["paths"]["panoptic_json"],
            ground_truth_root=dataset["paths"]["panoptic_root"],
        )
    assert "made_up" not in DatasetCatalog.list()


@pytest.mark.parametrize("categories", [None, {}, "disc", [], [3], [{"id": "5", "name": "disc", "isthing": 1}]])
def test_categories_of_another_form_are_refused(dataset, categories):
    rewrite(dataset, _set(("categories",), categories))
    with pytest.raises(ValueError, match=r"panoptic.json: .*(categor|classes)"):
        register_panoptic("made_up", **dataset["paths"])
