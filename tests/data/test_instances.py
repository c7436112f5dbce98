import json

import pytest
from PIL import Image

from possam.d2.structures import BoxMode
from possam.data import load_instances
from possam.vocabulary import Vocabulary

TRIANGLE = [[2.0, 2.0, 10.0, 2.0, 2.0, 10.0]]
RUNS = {"size": [16, 24], "counts": [0, 16, 368]}


def runs(**changes):
    return {**RUNS, **changes}


def annotation(number, image, category, segmentation, **more):
    shape = {"segmentation": segmentation, "bbox": [2.0, 2.0, 8.0, 8.0], "area": 32.5}
    return {"id": number, "image_id": image, "category_id": category, **shape, **more}


@pytest.fixture
def content() -> dict:
    """Two images of 24×16 (width×height); the first has a star and a crowd of discs, the second nothing."""
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 16, "width": 24} for n in (8, 3)]
    crowd = annotation(2, 8, 5, RUNS, bbox=[0.0, 0.0, 1.0, 16.0], iscrowd=1)
    annotations = [annotation(1, 8, 70, TRIANGLE, iscrowd=0), crowd]
    return {"images": images, "annotations": annotations}


@pytest.fixture
def load(content, tmp_path, vocabulary):
    def load(**keywords):
        for image in content.get("images", []):
            (tmp_path / "train").mkdir(exist_ok=True)
            for path in (tmp_path / f"{image['id']}.jpg", tmp_path / f"train/{image['id']}.jpg"):
                Image.new("RGB", (24, 16)).save(path)
        (tmp_path / "instances.json").write_text(json.dumps(content))
        places = {"image_root": tmp_path, "instances_json": tmp_path / "instances.json"}
        return load_instances(**{**places, "vocabulary": vocabulary, **keywords})

    return load


def test_records(load, tmp_path):
    records = load()
    assert [record["image_id"] for record in records] == [8, 3]
    assert records[0]["file_name"] == str(tmp_path / "8.jpg")
    assert (records[0]["height"], records[0]["width"]) == (16, 24)
    star, crowd = records[0]["annotations"]
    assert star == {
        "category_id": 2,
        "iscrowd": 0,
        "area": 32.5,
        "bbox": [2.0, 2.0, 8.0, 8.0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "segmentation": TRIANGLE,
    }
    assert (crowd["category_id"], crowd["iscrowd"], crowd["segmentation"]) == (0, 1, RUNS)
    assert records[1]["annotations"] == []
    assert "neg_category_ids" not in records[0]


def test_federated_records(load, content, tmp_path):
    for image in content["images"]:
        del image["file_name"]
        image |= {"coco_url": f"http://images.org/train/{image['id']}.jpg", "neg_category_ids": [70]}
        image["not_exhaustive_category_ids"] = [5] if image["id"] == 8 else []
    for one in content["annotations"]:
        del one["iscrowd"]
    records = load(federated=True, image_names="coco_url")
    assert records[0]["file_name"] == str(tmp_path / "train/8.jpg")
    assert [record["neg_category_ids"] for record in records] == [[2], [2]]
    assert [record["not_exhaustive_category_ids"] for record in records] == [[0], []]
    assert [one["iscrowd"] for one in records[0]["annotations"]] == [0, 0]
    del content["images"][0]["neg_category_ids"]
    with pytest.raises(ValueError, match=r"images\[0\]: the keys \['neg_category_ids'\] are missing .*LVIS format"):
        load(federated=True, image_names="coco_url")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), r"keys \['images'\] are missing .*COCO instance format"),
        (lambda c: c["images"][1].pop("width"), r"images\[1\]: the keys \['width'\] are missing"),
        (lambda c: c["images"][1].update(id=8), r"image ids must be distinct, but \[8\]"),
        (lambda c: c["annotations"][1].pop("area"), r"annotations\[1\]: the keys \['area'\] are missing"),
        (lambda c: c["annotations"][1].update(image_id=4), r"annotations name the image ids \[4\]"),
        (lambda c: c["annotations"][1].update(category_id=6), r"category ids \[6\] are not in the vocabulary"),
        (lambda c: c["annotations"][1].update(category_id=9), r"the classes \[grass\] have instances, but are stuff"),
        (lambda c: c["annotations"][0].update(segmentation=[]), r"annotation 1 of image 8 has no mask"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3]]), r"annotation 1 of image 8 has no mask"),
        (lambda c: c["annotations"][1].update(segmentation={"counts": []}), r"annotation 2 of image 8 has no mask"),
        (lambda c: c["annotations"][0].update(segmentation=None), r"annotation 1 of image 8 has no mask.* got None"),
        (lambda c: c["annotations"][1].update(segmentation=runs(size=None)), r"mask of .*annotation 2 of .* is None"),
        (lambda c: c["annotations"][1].update(segmentation=runs(size=[24, 16])), r"annotation 2 .* 16×24 .* is 24×16"),
        (lambda c: c["annotations"][1].update(segmentation=runs(counts=[384])), r"annotation 2 of .* covers no pixel"),
        (lambda c: c["annotations"][1].update(area=385), r"annotation 2 of image 8: the area 385 is more than the 384"),
        (lambda c: c["annotations"][1].update(bbox=[8, 0, 16, 16]), r"annotation 2 .* in \[0, 0, 1, 16\] .*\[8, 0, 16"),
        (lambda c: c["annotations"][1].update(image_id="8"), r"ids \['8'\], which are .* '8' and 8 differ"),
        (lambda c: c["annotations"][1].update(id=[1]), r"annotations\[1\].id must be an integer or a string"),
        (lambda c: c["annotations"][1].update(category_id="5"), r"annotations\[1\]: category_id must be .*but is '5'"),
        (lambda c: c["annotations"][1].update(area=-1), r"annotations\[1\]: area must be a number of pixels.* -1"),
        (lambda c: c["annotations"][1].update(area=float("nan")), r"annotations\[1\]: area must be a number .* nan"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, "x", 4]), r"annotations\[1\]: bbox must be four numbers"),
        (lambda c: c["annotations"][1].update(iscrowd=None), r"annotations\[1\]: iscrowd must be 0 or 1, but is None"),
        (lambda c: c["annotations"][1].update(image_id=[]), r"annotations\[1\].image_id must be an integer or"),
        (lambda c: c["images"][0].update(width="x"), r"images\[0\] has .* the width 'x'"),
        (lambda c: c.update(annotations=None), r"annotations must be a list"),
    ],
)
def test_bad_annotations_are_refused(load, content, tmp_path, change, message):
    load()
    change(content)
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        load(instances_json=tmp_path / "bad.json")
    assert "bad.json" in str(caught.value)


def test_missing_files_are_named(load, tmp_path):
    load()
    with pytest.raises(FileNotFoundError, match=r"2 images of .* are missing: .*/none/8.jpg.*Unpack them"):
        load(image_root=tmp_path / "none", fix="Unpack them.")
    assert load(image_root=tmp_path / "none", need_images=False)[0]["file_name"] == str(tmp_path / "none/8.jpg")
    with pytest.raises(FileNotFoundError, match=r"none.json does not exist. Unpack them"):
        load(instances_json=tmp_path / "none.json", fix="Unpack them.")


def test_a_vocabulary_of_things_alone(load, vocabulary):
    """Contiguous ids are positions among the things."""
    things = Vocabulary(name="things", categories=tuple(c for c in vocabulary.categories if c.isthing))
    assert [one["category_id"] for one in load(vocabulary=things)[0]["annotations"]] == [1, 0]
