"""Faults of annotation files."""

import gzip

import pytest

from tests.data.doctor.planting import IMAGES, INSTANCES, PANOPTIC, change_json, cut, problems_of, the_problem
from tests.layouts import make_lvis


def first(content):
    return content["annotations"][0]


JSON_FAULTS = {
    "cut off": (lambda p: cut(p, 0.6), "json", "panoptic_val2017.json is cut off: it ends after"),
    "a web page": (lambda p: p.write_text("<html>log in</html>"), "json", "is a web page"),
    "an archive": (lambda p: p.write_bytes(gzip.compress(p.read_bytes())), "json", "is a gzip archive; unpack it"),
    "a folder": (lambda p: (p.unlink(), (p / "a").mkdir(parents=True)), "json", "cannot be read (Is a directory)"),
    "empty": (lambda p: p.write_text(""), "json", "is empty"),
    "broken": (lambda p: p.write_text('{"images": [1,,2]}'), "json", "is not valid JSON (Expecting value at line 1"),
    "another format": (lambda p: p.write_text('{"images": []}'), "json", "has no list 'annotations'"),
    "a list": (lambda p: p.write_text("[1]"), "json", "holds a list"),
    "no segments": (
        lambda p: change_json(p, lambda c: first(c).pop("segments_info")),
        "json",
        "annotations[0]: the keys ['segments_info'] are missing",
    ),
    "no iscrowd": (
        lambda p: change_json(p, lambda c: first(c)["segments_info"][1].pop("iscrowd")),
        "json",
        "image 201: segment 70000: the keys ['iscrowd'] are missing",
    ),
    "unknown category": (
        lambda p: change_json(p, lambda c: first(c)["segments_info"][0].update(category_id=999)),
        "category ids",
        "has category ids that the vocabulary coco_panoptic does not have (ids 1…200): 999 in 1 annotations",
    ),
    "a crowd of 2": (
        lambda p: change_json(p, lambda c: first(c)["segments_info"][0].update(iscrowd=2)),
        "json",
        "image 201: segment 7: iscrowd must be 0 or 1, but is 2",
    ),
    "no isthing": (
        lambda p: change_json(p, lambda c: c["categories"][0].pop("isthing")),
        "json",
        "categories[0] ('person') has no isthing",
    ),
    "a thing that is stuff": (
        lambda p: change_json(p, lambda c: c["categories"][0].update(isthing=0)),
        "isthing",
        "has things that are stuff in the vocabulary, or the other way round: id 1 'person' has isthing 0, but 1 is",
    ),
    "a height of null": (
        lambda p: change_json(p, lambda c: c["images"][1].update(height=None)),
        "json",
        "images[1] has the height None and the width 32",
    ),
    "several": (
        lambda p: change_json(p, lambda c: [a.update(segments_info=None) for a in c["annotations"]]),
        "json",
        "not in the COCO panoptic format (2): annotations[0].segments_info must be a list, but is None; annotations[1]",
    ),
    "a box that leaves the image": (
        lambda p: change_json(p, lambda c: first(c)["segments_info"][0].update(bbox=[20, 0, 32, 24])),
        "geometry",
        "has boxes that leave their images: segment 7 of 201: [20, 0, 32, 24] (XYWH) in an image of 32×24",
    ),
    "an area larger than the image": (
        lambda p: change_json(p, lambda c: first(c)["segments_info"][0].update(area=769)),
        "geometry",
        "has areas that are larger than their images: segment 7 of 201: 769 in an image of 32×24",
    ),
    "swapped names": (
        lambda p: change_json(p, lambda c: swap(c["categories"], "name")),
        "category names",
        "id 1 is 'bicycle', expected 'person'",
    ),
    "a missing category": (
        lambda p: change_json(p, lambda c: c["categories"].pop()),
        "categories",
        "has 132 categories with the ids 1…199, but the vocabulary coco_panoptic has 133 with the ids 1…200: id 200 is "
        "not there",
    ),
}


def swap(categories, key):
    categories[0][key], categories[1][key] = categories[1][key], categories[0][key]


@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_annotation_file(coco, fault):
    plant, kind, what = JSON_FAULTS[fault]
    plant(coco / PANOPTIC)
    found = problems_of("coco_panoptic_val", coco)
    problem = next(problem for problem in found if problem.kind == kind)
    assert what in str(problem)
    assert problem.where == str(coco / PANOPTIC)
    assert "panoptic_annotations_trainval2017.zip" in problem.fix


def test_entries_that_refer_to_nothing(coco):
    def change(content):
        content["annotations"][0]["image_id"] = 777

    change_json(coco / PANOPTIC, change)
    texts = [str(problem) for problem in problems_of("coco_panoptic_val", coco)]
    assert "panoptic_val2017.json annotates image ids that are not in its list of images: 777" in texts
    assert "panoptic_val2017.json lists image ids without an annotation: 201" in texts


def test_duplicates(coco):
    change_json(coco / PANOPTIC, lambda c: (c["images"].append(c["images"][0]), c["annotations"].append(first(c))))
    found = problems_of("coco_panoptic_val", coco)
    texts = [str(problem) for problem in found if problem.kind == "duplicates"]
    assert "panoptic_val2017.json has image ids more than once: 201 2 times" in texts
    assert "panoptic_val2017.json has image names more than once: '000000000201.jpg' 2 times" in texts
    assert "panoptic_val2017.json has annotated image ids more than once: 201 2 times" in texts
    assert any("segment ids of an image more than once (4): (201, 7) 2 times" in text for text in texts)


def test_two_entries_of_one_image(coco):
    change_json(coco / INSTANCES, lambda c: c["images"][1].update(file_name="000000000201.jpg"))
    texts = [str(problem) for problem in problems_of("coco_instance_val", coco)]
    assert "images that several entries of the annotation file name: 000000000201.jpg" in texts
    assert any("images without an annotation" in text for text in texts)


def test_geometry_of_instances(coco):
    def change(content):
        polygon, crowd = content["annotations"][0], content["annotations"][-1]
        polygon["bbox"] = [30, 0, 20, 5]
        crowd["segmentation"]["size"] = [32, 24]

    change_json(coco / INSTANCES, change)
    texts = [str(problem) for problem in problems_of("coco_instance_val", coco)]
    assert texts == [
        "instances_val2017.json has boxes that leave their images: annotation 2013: [30, 0, 20, 5] (XYWH) in an image "
        "of 32×24",
        "instances_val2017.json has run lengths of another size [height, width] than the image: annotation 2024: "
        "[32, 24], expected [24, 32]",
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"area": 600}, "annotation 2013 has the area 600, but its mask covers"),
        ({"area": 0}, "annotation 2013 has the area 0, but its mask covers"),
        ({"bbox": [0, 0, 1, 1]}, "annotation 2013 has the bbox [0, 0, 1, 1], but its mask lies in ["),
        ({"segmentation": [[]]}, "annotation 2013 has no mask: none of its polygons has three corners"),
        ({"segmentation": [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]}, "the polygons of annotation 2013 lie between 0 and 1"),
        ({"segmentation": {"size": [24, 32], "counts": [767]}}, "the runs of a mask of annotation 2013 cover 767"),
    ],
)
def test_masks_that_are_not_what_is_stated(coco, change, what):
    change_json(coco / INSTANCES, lambda c: first(c).update(change))
    problem = the_problem("coco_instance_val", coco)
    assert (problem.kind, problem.where) == ("geometry", str(coco / INSTANCES))
    assert str(problem).startswith("instances_val2017.json has masks that cover nothing, or something else than is st")
    assert what in str(problem)


def test_areas_of_polygons_that_cross_themselves(coco):
    """The field's area of a bow tie is that of its corners, in which one half is taken from the other."""
    bow = {"segmentation": [[0, 0, 30, 20, 30, 0, 0, 20]], "bbox": [0, 0, 30, 20], "area": 0}
    change_json(coco / INSTANCES, lambda c: first(c).update(bow))
    assert problems_of("coco_instance_val", coco) == []
    change_json(coco / INSTANCES, lambda c: first(c).update(area=300))
    assert problems_of("coco_instance_val", coco) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_as_windows_writes_them_are_read(coco, encoding):
    text = (coco / PANOPTIC).read_text()
    (coco / PANOPTIC).write_text(text, encoding=encoding)
    assert problems_of("coco_panoptic_val", coco) == []
    (coco / PANOPTIC).write_text(text[:500], encoding=encoding)
    assert "is cut off: it ends after 500 characters" in str(problems_of("coco_panoptic_val", coco)[0])


def test_the_two_annotation_files_must_agree(coco):
    change_json(coco / INSTANCES, lambda c: c["images"].pop(0))
    texts = [str(problem) for problem in problems_of("coco_panoptic_val", coco)]
    assert "instances_val2017.json lacks images of the panoptic JSON: 000000000201.jpg" in texts
    assert "instances_val2017.json annotates 1 images, 2 are expected" in texts


def test_the_official_count(coco):
    problem = the_problem("coco_instance_val", coco, images=5000)
    assert str(problem) == "instances_val2017.json annotates 2 images, 5,000 are expected"


def test_lvis(tmp_path):
    make_lvis(tmp_path, images=IMAGES)
    assert problems_of("lvis_instance_val", tmp_path, full=True) == []
    assert problems_of("lvis_instance_train", tmp_path, full=True) == []
    (tmp_path / "coco/train2017/000000000402.jpg").unlink()
    change_json(tmp_path / "lvis/lvis_v1_val.json", lambda c: c["images"][0].pop("neg_category_ids"))
    texts = [str(problem) for problem in problems_of("lvis_instance_val", tmp_path)]
    assert texts == [
        "lvis_v1_val.json has images without neg_category_ids or not_exhaustive_category_ids: no LVIS annotation: "
        "image 401",
        "images of the annotation are missing (1 of 2): 000000000402.jpg",
    ]


@pytest.mark.parametrize("name", ["coco_48_17_val", "lvis_866_337_train"])
def test_classes_that_a_split_leaves_out_are_none_too_many(coco, tmp_path, name):
    make_lvis(tmp_path / "apart", images=IMAGES)
    assert problems_of(name, coco if name.startswith("coco") else tmp_path / "apart", full=True) == []
