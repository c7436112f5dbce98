"""All datasets as their preparation leaves them: nothing is wrong, what loads them agrees, and known faults are
known."""

import shutil

import numpy as np
import pytest
from PIL import Image

from possam.data.datasets import SPECS, find_spec, load_records
from possam.data.preparation import PREPARATIONS
from tests.data.doctor.planting import IMAGES, change_json, problems_of, save, the_problem
from tests.layouts import LAYOUTS

FOLDERS = {
    "coco": "coco",
    "ADEChallengeData2016": "ade20k",
    "ADE20K_2021_17_01": "ade20k_full",
    "pascal_ctx_d2": "pascal_context",
    "pascal_voc_d2": "pascal_voc",
    "cityscapes": "cityscapes",
    "mapillary_vistas": "mapillary",
}


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    """Make a dataset's layout and prepare it, once each; not to be changed."""
    roots = {}

    def once(spec):
        layout = "lvis" if spec.name.startswith("lvis") else FOLDERS[spec.image_folder.split("/")[0]]
        key = (layout, spec.preparation)
        if key not in roots:
            roots[key] = tmp_path_factory.mktemp(layout)
            LAYOUTS[layout](roots[key], images=IMAGES)
            if spec.preparation:
                PREPARATIONS[spec.preparation].run(roots[key])
        return roots[key]

    return once


@pytest.mark.parametrize("name", SPECS)
def test_a_prepared_dataset_is_well_and_loads(prepare, name):
    spec = find_spec(name)
    root = prepare(spec)
    assert [str(problem) for problem in problems_of(name, root, full=True)] == []
    assert len(load_records(spec, root)) == IMAGES


@pytest.fixture
def tree(prepare, tmp_path):
    """A copy of a prepared dataset, to plant faults in."""

    def copy(name):
        return shutil.copytree(prepare(find_spec(name)), tmp_path / "copy")

    return copy


def test_cityscapes_label_ids_under_the_name_of_train_ids(tree):
    root = tree("cityscapes_panoptic_val")
    for path in (root / "cityscapes/gtFine/val").rglob("*_labelIds.png"):
        shutil.copy(path, path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    problem = the_problem("cityscapes_panoptic_val", root)
    assert "these are Cityscapes' labelIds (0…33) under the name of labelTrainIds (0…18, 255)" in problem.what
    assert problem.fix == f"Run: possam data prepare cityscapes --root {root} --overwrite"


def test_cityscapes_without_train_ids(tree):
    root = tree("cityscapes_panoptic_val")
    for path in (root / "cityscapes/gtFine/val").rglob("*_labelTrainIds.png"):
        path.unlink()
    problem = the_problem("cityscapes_panoptic_val", root)
    assert "there are labelIds only, from which labelTrainIds are made (2 of 2)" in str(problem)
    assert problem.fix == f"Run: possam data prepare cityscapes --root {root}"


def test_official_stuff_maps_in_place_of_prepared_ones(tree):
    root = tree("coco_stuff_val")
    shutil.copytree(root / "coco/stuffthingmaps", root / "coco/stuffthingmaps_detectron2", dirs_exist_ok=True)
    problem = the_problem("coco_stuff_val", root)
    assert "these are COCO-Stuff's official maps (ids up to 181), not prepared ones (0…170)" in problem.what


def test_official_voc_maps_in_place_of_prepared_ones(tree):
    root = tree("pascal_voc_20_val")
    for path in (root / "pascal_voc_d2/annotations_pascal20/validation").iterdir():
        pixels = np.array(Image.open(path))
        pixels[0, 0] = 20
        save(path, pixels)
    assert "these are VOC's official maps" in the_problem("pascal_voc_20_val", root).what


def test_ade_files_of_a_script_that_counts_from_one(tree):
    root = tree("ade20k_panoptic_val")

    def shift(content):
        parts = [part for annotation in content["annotations"] for part in annotation["segments_info"]]
        for part in parts:
            part["category_id"] += 1
        for category in content["categories"]:
            category["id"] += 1

    change_json(root / "ADEChallengeData2016/ade20k_panoptic_val.json", shift)
    problems = {problem.kind: problem for problem in problems_of("ade20k_panoptic_val", root)}
    problem = problems["categories"]
    assert "has 150 categories with the ids 1…150, but the vocabulary ade20k_150 has 150 with the ids 0…149" in (
        problem.what
    )
    assert "another script made this file, with ids from 1 to 150; all classes are off by one" in problem.what
    assert problem.fix == f"Run: possam data prepare ade20k --root {root} --overwrite"
