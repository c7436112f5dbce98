"""Every fault that is planted in a small tree is found, named, and comes with what mends it."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from possam.data.datasets import find_spec
from possam.data.doctor import ABSENT, Problem, examine, is_there
from possam.data.doctor.problem import gather
from tests.layouts import make_ade20k, make_coco, make_lvis, make_mapillary

IMAGES = 2


def problems_of(name, root, *, images=IMAGES, **options):
    return examine(replace(find_spec(name), images=images), root, **options)


def the_problem(name, root, **options):
    found = problems_of(name, root, **options)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(path, share=0.7):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


# ---------------------------------------------------------------- a panoptic dataset with everything: COCO


@pytest.fixture
def coco(tmp_path):
    make_coco(tmp_path, images=IMAGES)
    return tmp_path


PANOPTIC = "coco/annotations/panoptic_val2017.json"
INSTANCES = "coco/annotations/instances_val2017.json"
IMAGE = "coco/val2017/000000000201.jpg"
PNG = "coco/panoptic_val2017/000000000201.png"


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["coco_panoptic_train", "coco_panoptic_val", "coco_instance_val"])
def test_a_good_tree_has_no_problem(coco, name, full):
    assert problems_of(name, coco, full=full) == []
    assert is_there(find_spec(name), coco) == "yes"


def resize(path, size):
    with Image.open(path) as picture:
        picture.resize(size, Image.Resampling.NEAREST).save(path)


def paint(path, colour):
    """One pixel of another colour, which the image's void border has room for."""
    pixels = np.array(Image.open(path))
    pixels[0, 0] = colour
    save(path, pixels)


def erase_segment(path, segment):
    pixels = np.array(Image.open(path))
    ids = pixels.astype(int) @ [1, 256, 65536]
    pixels[ids == segment] = 0
    save(path, pixels)


FILE_FAULTS = {
    "no image": (IMAGE, lambda p: p.unlink(), "missing", "1 of 2: 000000000201.jpg", "val2017.zip"),
    "no PNG": (PNG, lambda p: p.unlink(), "missing", "panoptic PNGs of the JSON are missing, 1 of 2", "unzip"),
    "cut image": (IMAGE, cut, "decoding", "images do not decode: 000000000201.jpg: ", "val2017.zip"),
    "cut PNG": (PNG, cut, "decoding", "panoptic PNGs do not decode", "unzip"),
    "empty image": (IMAGE, lambda p: p.write_bytes(b""), "decoding", "the file is empty", "val2017.zip"),
    "no picture": (IMAGE, lambda p: p.write_text("<html>"), "decoding", "it is no picture", "val2017.zip"),
    "small PNG": (
        PNG,
        lambda p: resize(p, (16, 12)),
        "sizes",
        "000000000201.png: image 32×24, panoptic PNG 16×12, JSON 32×24",
        "unzip",
    ),
    "large image": (IMAGE, lambda p: resize(p, (64, 48)), "sizes", "image 64×48, panoptic PNG 32×24", "Download"),
    "grey PNG": (
        PNG,
        lambda p: save(p, np.zeros((24, 32), np.uint8)),
        "mode",
        "must be RGB (id = R + 256·G + 256²·B): 000000000201.png: one channel of uint8",
        "unzip",
    ),
    "16-bit image": (
        IMAGE,
        lambda p: save(p, np.zeros((24, 32), np.uint16), format="PNG"),
        "mode",
        "000000000201.jpg: mode I;16",
        "val2017.zip",
    ),
    "unlisted id": (PNG, lambda p: paint(p, (9, 1, 0)), "segment ids", "JSON does not list: 000000000201.png: 265", ""),
    "id without a pixel": (PNG, lambda p: erase_segment(p, 7), "segment ids", "lists: 000000000201.png: 7", "unzip"),
    "image of no entry": (
        "coco/val2017/extra.jpg",
        lambda p: save(p, np.zeros((4, 4, 3), np.uint8)),
        "strangers",
        "images without an annotation: take both from the same release, or remove these: extra.jpg",
        "",
    ),
    "PNG of no entry": (
        "coco/panoptic_val2017/extra.png",
        lambda p: save(p, np.zeros((4, 4, 3), np.uint8)),
        "strangers",
        "panoptic PNGs without an entry in the JSON",
        "",
    ),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_files(coco, fault):
    path, plant, kind, what, mend = FILE_FAULTS[fault]
    plant(coco / path)
    problem = the_problem("coco_panoptic_val", coco)
    assert problem.kind == kind
    assert what in str(problem)
    assert mend in problem.mend
    assert problem.where.startswith(str((coco / path).parent))


def first(content):
    return content["annotations"][0]


JSON_FAULTS = {
    "cut off": (lambda p: cut(p, 0.6), "json", "panoptic_val2017.json is cut off: it ends after"),
    "a web page": (lambda p: p.write_text("<html>log in</html>"), "json", "is a web page"),
    "an archive": (lambda p: p.write_bytes(gzip.compress(p.read_bytes())), "json", "is a gzip archive; unpack it"),
    "empty": (lambda p: p.write_text(""), "json", "is empty"),
    "broken": (lambda p: p.write_text('{"images": [1,,2]}'), "json", "is not valid JSON (Expecting value at line 1"),
    "another format": (lambda p: p.write_text('{"images": []}'), "json", "has no list 'annotations'"),
    "a list": (lambda p: p.write_text("[1]"), "json", "holds a list"),
    "no segments": (
        lambda p: change_json(p, lambda c: first(c).pop("segments_info")),
        "json",
        "lacks ['segments_info'] in annotations[0]",
    ),
    "no iscrowd": (
        lambda p: change_json(p, lambda c: first(c)["segments_info"][1].pop("iscrowd")),
        "json",
        "lacks ['iscrowd'] in a segment of annotations[0]",
    ),
    "unknown category": (
        lambda p: change_json(p, lambda c: first(c)["segments_info"][0].update(category_id=999)),
        "category ids",
        "has category ids that the vocabulary coco_panoptic does not have (ids 1…200): 999 in 1 annotations",
    ),
    "a crowd of 2": (
        lambda p: change_json(p, lambda c: first(c)["segments_info"][0].update(iscrowd=2)),
        "crowds",
        "2 in image 201",
    ),
    "swapped names": (
        lambda p: change_json(p, lambda c: swap(c["categories"], "name")),
        "categories",
        "id 1 is 'bicycle', expected 'person'",
    ),
    "a missing category": (
        lambda p: change_json(p, lambda c: c["categories"].pop()),
        "categories",
        "has 132 categories with the ids 1…199, but the vocabulary coco_panoptic has 133 with the ids 1…200 "
        "(1)".removesuffix(" (1)"),
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
    assert "panoptic_annotations_trainval2017.zip" in problem.mend


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


def test_the_two_annotation_files_must_agree(coco):
    change_json(coco / INSTANCES, lambda c: c["images"].pop(0))
    texts = [str(problem) for problem in problems_of("coco_panoptic_val", coco)]
    assert "instances_val2017.json lacks images of the panoptic JSON: 000000000201.jpg" in texts
    assert "instances_val2017.json annotates 1 images, 2 are expected" in texts


def test_the_official_count(coco):
    problem = the_problem("coco_instance_val", coco, images=5000)
    assert str(problem) == "instances_val2017.json annotates 2 images, 5,000 are expected"


def test_exif_orientation_counts(coco):
    with Image.open(coco / IMAGE) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(coco / IMAGE, exif=exif)
    assert "image 24×32 (turned by its EXIF orientation), panoptic PNG 32×24, JSON 32×24" in str(
        the_problem("coco_panoptic_val", coco)
    )


def test_damage_within_a_file_is_found_in_the_sample_or_with_full(coco, monkeypatch):
    monkeypatch.setattr("possam.data.doctor.examination.SPREAD", 1)
    monkeypatch.setattr("possam.data.doctor.examination._spread", lambda samples: samples[:1])
    path = coco / "coco/panoptic_val2017/000000000202.png"
    data = bytearray(path.read_bytes())
    middle = data.index(b"IDAT") + 30
    data[middle : middle + 8] = b"\0" * 8
    path.write_bytes(bytes(data))
    assert problems_of("coco_panoptic_val", coco) == []
    problem = the_problem("coco_panoptic_val", coco, full=True)
    assert problem.kind == "decoding" and "000000000202.png" in str(problem)


# ---------------------------------------------------------------- what is not there


def test_a_dataset_that_is_not_there_is_one_problem(tmp_path):
    problem = the_problem("ade20k_semantic_val", tmp_path)
    assert problem.kind == ABSENT
    assert problem.what == "not there"
    assert "sceneparsing.csail.mit.edu" in problem.mend
    assert problem.mend.endswith(f"Run: possam data prepare ade20k_semantic --root {tmp_path}")
    assert is_there(find_spec("ade20k_semantic_val"), tmp_path) == "no"


def test_a_dataset_that_is_not_prepared(tmp_path):
    make_ade20k(tmp_path, images=IMAGES)
    problem = the_problem("ade20k_semantic_val", tmp_path)
    assert problem.kind == ABSENT
    assert "not prepared" in problem.what
    assert "annotations_detectron2/validation" in str(problem)
    assert problem.mend == f"Run: possam data prepare ade20k_semantic --root {tmp_path}"


def test_a_part_that_is_not_there(coco):
    (coco / INSTANCES).unlink()
    assert is_there(find_spec("coco_panoptic_val"), coco) == "in part"
    problem = the_problem("coco_panoptic_val", coco)
    assert (problem.kind, problem.where, str(problem)) == ("missing", str(coco / INSTANCES), "does not exist")


def test_the_root_is_said_only_where_it_was_given(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert the_problem("ade20k_semantic_val", None).mend.endswith("possam data prepare ade20k_semantic")


# ---------------------------------------------------------------- label maps: ADE20K


def prepare_ade(root, convert, images=IMAGES):
    """Label maps made from the official ones by `convert`."""
    make_ade20k(root, images=images)
    ade = root / "ADEChallengeData2016"
    for official in sorted((ade / "annotations/validation").glob("*.png")):
        pixels = convert(np.array(Image.open(official)))
        save(ade / "annotations_detectron2/validation" / official.name, pixels)
    return ade


def as_it_should(official):
    return (official - 1).astype(np.uint8)


@pytest.fixture
def ade(tmp_path):
    return prepare_ade(tmp_path, as_it_should)


LABEL_MAP = "annotations_detectron2/validation/ADE_val_00000001.png"


def test_good_label_maps(ade):
    assert problems_of("ade20k_semantic_val", ade.parent, full=True) == []


LABEL_FAULTS = {
    "value out of range": (
        lambda p: paint(p, 200),
        "values",
        "label maps hold values other than 0…149 and 255 (ignored): ADE_val_00000001.png: 200 (1 pixels)",
    ),
    "colours": (
        lambda p: save(p, np.zeros((24, 32, 3), np.uint8)),
        "mode",
        "must have one channel of uint8: ADE_val_00000001.png: a colour picture (RGB)",
    ),
    "16 bits": (lambda p: save(p, np.zeros((24, 32), np.uint16)), "mode", "ADE_val_00000001.png: one channel of uint16"),
    "another size": (lambda p: resize(p, (16, 12)), "sizes", "ADE_val_00000001.png: image 32×24, label map 16×12"),
    "missing": (lambda p: p.unlink(), "missing", "label maps of images are missing, 1 of 2: ADE_val_00000001.png"),
    "cut": (cut, "decoding", "label maps do not decode"),
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_label_maps(ade, fault):
    plant, kind, what = LABEL_FAULTS[fault]
    plant(ade / LABEL_MAP)
    found = [problem for problem in problems_of("ade20k_semantic_val", ade.parent) if problem.kind == kind]
    assert len(found) == 1
    assert what in str(found[0])
    assert "possam data prepare ade20k_semantic" in found[0].mend


def test_an_image_without_which_a_label_map_stands(ade):
    (ade / "images/validation/ADE_val_00000002.jpg").unlink()
    kinds = {problem.kind: str(problem) for problem in problems_of("ade20k_semantic_val", ade.parent)}
    assert "images of the annotation are missing, 1 of 2: ADE_val_00000002.jpg" in kinds["missing"]
    assert "holds 1 images, 2 are expected" in kinds["count"]


def test_problems_of_one_kind_are_joined(tmp_path):
    def spoil(official):
        pixels = as_it_should(official)
        pixels[0, 0] = 180 + pixels.max() % 2
        return pixels

    prepare_ade(tmp_path, spoil, images=5)
    found = problems_of("ade20k_semantic_val", tmp_path, images=5)
    problem = next(problem for problem in found if problem.kind == "values")
    assert problem.count == 5
    assert len(problem.details) == 3
    assert str(problem).endswith(", …")
    assert problem.where == str(tmp_path / "ADEChallengeData2016/annotations_detectron2/validation")
    assert problem.mend.endswith(" --overwrite")
    assert problem.to_json()["values"] == [180, 181] or len(problem.values) == 1


# ---------------------------------------------------------------- trees that went wrong in a known way


def test_official_ade_maps_in_place_of_prepared_ones(tmp_path):
    prepare_ade(tmp_path, lambda official: official)
    texts = [str(problem) for problem in problems_of("ade20k_semantic_val", tmp_path)]
    assert any("copies of ADE20K's official ones (0 unlabelled, 1…150 classes)" in text for text in texts)


def test_official_ade_maps_are_known_by_the_value_150(tmp_path):
    ade = prepare_ade(tmp_path, lambda official: official)
    for path in (ade / "annotations/validation").iterdir():
        path.unlink()
    paint(ade / LABEL_MAP, 150)
    problem = the_problem("ade20k_semantic_val", tmp_path)
    assert "150" in problem.details[0]
    assert "these are ADE20K's official maps" in problem.what
    assert problem.mend == f"Run: possam data prepare ade20k_semantic --root {tmp_path} --overwrite"


def test_ade_maps_with_0_for_unlabelled(tmp_path):
    prepare_ade(tmp_path, lambda official: np.where(official == 0, 0, official - 1).astype(np.uint8))
    problem = the_problem("ade20k_semantic_val", tmp_path)
    assert "label maps have 0 (wall) where the official ones are unlabelled, 255 is expected there (2)" in str(problem)


def test_ade_maps_from_another_picture(ade):
    save(ade / LABEL_MAP, np.full((24, 32), 255, np.uint8))
    assert "differ from the official ones by more than" in the_problem("ade20k_semantic_val", ade.parent).what


def test_no_unlabelled_pixel_in_many_maps(tmp_path):
    ade = prepare_ade(tmp_path, lambda official: np.minimum(official, 149), images=12)
    for path in (ade / "annotations/validation").iterdir():
        path.unlink()
    problem = the_problem("ade20k_semantic_val", tmp_path, images=12)
    assert "none of 12 label maps has a pixel of 255 (ignored), and 12 of them have 0" in str(problem)


def test_images_of_coco_2014(coco):
    for path in sorted((coco / "coco/val2017").iterdir()):
        path.rename(path.with_name(f"COCO_val2014_{path.name}"))
    texts = [str(problem) for problem in problems_of("coco_panoptic_val", coco)]
    assert any("holds images of COCO 2014, such as COCO_val2014_000000000201" in text for text in texts)


def test_the_folder_of_coco_2014(coco):
    (coco / "coco/val2017").rename(coco / "coco/val2014")
    problem = the_problem("coco_panoptic_val", coco)
    assert problem.kind == ABSENT
    assert f"there is {coco / 'coco/val2014'}, but the images of 2017 are expected" in problem.what


def test_an_archive_unpacked_in_part(tmp_path):
    make_coco(tmp_path, images=24)
    for path in sorted((tmp_path / "coco/val2017").iterdir())[:12]:
        path.unlink()
    problem = the_problem("coco_panoptic_val", tmp_path, images=24)
    assert "images of the annotation are missing, 12 of 24" in problem.what
    assert "unpacked in part" in problem.what


def test_processes_and_progress(tmp_path, monkeypatch):
    monkeypatch.setattr("possam.data.doctor.examination._WORTH_PROCESSES", 0)
    make_coco(tmp_path, images=24)
    cut(tmp_path / IMAGE)
    seen = []
    problem = the_problem(
        "coco_panoptic_val", tmp_path, images=24, processes=2, progress=lambda done, total: seen.append((done, total))
    )
    assert "images do not decode: 000000000201.jpg" in str(problem)
    assert seen == [(4, 24), (24, 24)]


@pytest.fixture
def mapillary(tmp_path):
    make_mapillary(tmp_path, images=IMAGES)
    return tmp_path / "mapillary_vistas"


def test_mapillary_version_2(mapillary):
    assert problems_of("mapillary_panoptic_val", mapillary.parent, full=True) == []
    more = [{"id": number, "name": f"new {number}", "isthing": 0} for number in range(66, 125)]
    change_json(mapillary / "validation/panoptic/panoptic_2018.json", lambda c: c["categories"].extend(more))
    problem = the_problem("mapillary_panoptic_val", mapillary.parent)
    assert "has 124 categories" in problem.what and "version 1.2 with its 65 is expected" in problem.what


def test_mapillary_version_1_in_the_archive_of_2(mapillary):
    (mapillary / "validation/v1.2").mkdir()
    for name in ("labels", "panoptic", "instances"):
        (mapillary / "validation" / name).rename(mapillary / "validation/v1.2" / name)
    problem = the_problem("mapillary_panoptic_val", mapillary.parent)
    assert problem.mend.startswith("Move the folders in")


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
        "images of the annotation are missing, 1 of 2: 000000000402.jpg",
    ]


def test_gathering_parts_first_changes_nothing():
    problems = [
        Problem(kind="k", where=f"/a/{n}", what="w", mend="m", details=(f"d{n}",), values=frozenset([n]))
        for n in range(6)
    ]
    whole = gather(problems)
    assert gather([*gather(problems[:4]), *gather(problems[4:])]) == whole
    assert (whole[0].count, whole[0].details, whole[0].where) == (6, ("d0", "d1", "d2"), "/a")
    assert whole[0].values == frozenset(range(6))
