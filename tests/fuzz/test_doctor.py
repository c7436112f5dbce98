"""Datasets' files of any content: the doctor reports, never fails, and finds well only what can be loaded."""

import copy
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from possam.data.annotations import read_instances, read_label_map, read_segments
from possam.data.datasets import DatasetSpec, InstanceFiles, PanopticFiles, SemanticFiles
from possam.data.datasets.records import load_records
from possam.data.doctor import examine
from possam.data.id_maps import write_id_map
from possam.vocabulary import Vocabulary
from tests.fuzz.mutations import OTHERS, _places, cases, damaged, mutated, nest, read
from tests.fuzz.test_annotation_files import IDS, INSTANCES, LIARS, PANOPTIC, VOCABULARY, H, W, png

NASTY = (
    None, "", "x", "1", [], [[]], {}, [1], {"a": 1}, float("nan"), float("inf"), -1, 0, 0.5, 10**400, True, "\ud800",
    "\0", "x" * 300, "x" * 300 + "/a", "/a.jpg", nest(40),
)  # fmt: skip
COMMON = {"images": 2, "source": "export it again", "image_folder": "images"}


def categories(vocabulary):
    return [{"id": c.dataset_id, "name": c.names[0], "isthing": int(c.isthing)} for c in vocabulary.categories]


THINGS = VOCABULARY.things()
WHOLE_PANOPTIC = {**PANOPTIC, "categories": categories(VOCABULARY)}
WHOLE_INSTANCES = {**INSTANCES, "categories": categories(THINGS)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    for folder in ("images", "panoptic", "labels"):
        (root / folder).mkdir()
    for image in (1, "b"):
        Image.new("RGB", (W, H)).save(root / f"images/{image}.jpg")
        write_id_map(root / f"panoptic/{image}.png", IDS)
        Image.new("L", (W, H)).save(root / f"labels/{image}.png")
    VOCABULARY.to_json(root / "classes.json")
    THINGS.to_json(root / "things.json")
    (root / "a_panoptic.json").write_text(json.dumps(WHOLE_PANOPTIC))
    return root


def spec_of(root, kind):
    classes = str(root / ("things.json" if kind in ("instances", "lvis") else "classes.json"))
    files = {
        "panoptic": {"panoptic": PanopticFiles(json="panoptic.json", folder="panoptic")},
        "instances": {"instances": InstanceFiles(json="instances.json")},
        "lvis": {"instances": InstanceFiles(json="instances.json", federated=True)},
        "semantic": {"semantic": SemanticFiles(folder="labels")},
        "both": {
            "panoptic": PanopticFiles(json="a_panoptic.json", folder="panoptic"),
            "instances": InstanceFiles(json="instances.json"),
        },
    }[kind]
    return DatasetSpec(name=kind, vocabulary=classes, **COMMON, **files)


def check(root, kind):
    """Examine the dataset; where it is well, load it and read all annotations. Returns whether it is well."""
    spec = spec_of(root, kind)
    problems = examine(spec, root)
    for problem in problems:
        assert problem.where and len(str(problem)) < 20_000
        json.dumps(problem.to_json()).encode()
        str(problem).encode()
    if problems:
        return False
    vocabulary = Vocabulary.load(spec.vocabulary)
    for record in load_records(spec, root):
        if spec.panoptic:
            read_segments(record)
        if spec.semantic:
            read_label_map(record, ignore_label=255, num_classes=len(vocabulary))
        if spec.instances:
            read_instances(record, isthing=vocabulary.isthing)
    return True


def test_the_whole_files_are_well(root):
    (root / "panoptic.json").write_text(json.dumps(WHOLE_PANOPTIC))
    (root / "instances.json").write_text(json.dumps(WHOLE_INSTANCES))
    for kind in ("panoptic", "instances", "lvis", "semantic", "both"):
        assert check(root, kind), [str(problem) for problem in examine(spec_of(root, kind), root)]


@pytest.mark.parametrize("kind", ["panoptic", "instances", "lvis"])
def test_every_value_of_an_annotation_file(root, kind):
    """Each field of the first entry of each list is replaced by values of other types, one at a time."""
    whole = WHOLE_PANOPTIC if kind == "panoptic" else WHOLE_INSTANCES
    path = root / ("panoptic.json" if kind == "panoptic" else "instances.json")
    unread = () if kind == "lvis" else ("neg_category_ids", "not_exhaustive_category_ids")
    for place in _places(whole):
        if not place or any(key == 1 for key in place) or len(place) > 5:
            continue
        for value in NASTY:
            content = copy.deepcopy(whole)
            parent = content
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = value
            path.write_text(json.dumps(content))
            well = read(lambda: check(root, kind), path)
            assert value is not None or well is False or any(key in unread for key in place), place


@cases(80)
@given(content=mutated(WHOLE_PANOPTIC))
def test_a_panoptic_json_of_any_content(root, content):
    (root / "panoptic.json").write_text(json.dumps(content))
    check(root, "panoptic")


@cases(80)
@given(content=mutated(WHOLE_INSTANCES), kind=st.sampled_from(["instances", "lvis", "both"]))
def test_an_instance_json_of_any_content(root, content, kind):
    (root / "instances.json").write_text(json.dumps(content))
    check(root, kind)


@cases(60)
@given(content=damaged(json.dumps(WHOLE_PANOPTIC).encode()))
def test_a_panoptic_json_of_any_bytes(root, content):
    (root / "panoptic.json").write_bytes(content)
    check(root, "panoptic")


@cases(60)
@given(
    content=damaged(png(W, H, bytes(H * (1 + W)), color=0), OTHERS + LIARS),
    folder=st.sampled_from(["labels", "images", "panoptic"]),
)
def test_pictures_of_any_bytes(root, tmp_path_factory, content, folder):
    place = tmp_path_factory.mktemp("pictures")
    for name in ("images", "panoptic", "labels"):
        shutil.copytree(root / name, place / name)
    for name in ("classes.json", "a_panoptic.json"):
        shutil.copy(root / name, place / name.removeprefix("a_"))
    (place / folder / ("b.jpg" if folder == "images" else "b.png")).write_bytes(content)
    check(place, "panoptic" if folder == "panoptic" else "semantic")
    shutil.rmtree(place)


def test_absolute_names_under_a_relative_root(root, monkeypatch):
    """Places of problems have no folder in common, one being relative."""
    content = copy.deepcopy(WHOLE_PANOPTIC)
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "/nowhere/1.jpg", "none.jpg"
    (root / "panoptic.json").write_text(json.dumps(content))
    monkeypatch.chdir(root)
    texts = [str(problem) for problem in examine(spec_of(root, "panoptic"), ".")]
    assert "images of the annotation are missing (2 of 2): 1.jpg; none.jpg" in texts
