"""Trees that went wrong in a known way."""

import numpy as np
import pytest

from possam.data.doctor import ABSENT
from tests.data.doctor.planting import (
    IMAGES,
    LABEL_MAP,
    change_json,
    paint,
    prepare_ade,
    problems_of,
    save,
    the_problem,
)
from tests.layouts import make_coco, make_mapillary


def test_official_ade_maps_in_place_of_prepared_ones(tmp_path):
    prepare_ade(tmp_path, lambda official: official)
    texts = [str(problem) for problem in problems_of("ade20k_semantic_val", tmp_path)]
    assert any("copies of ADE20K's official ones (0 unlabeled, 1…150 classes)" in text for text in texts)


def test_official_ade_maps_are_known_by_the_value_150(tmp_path):
    ade = prepare_ade(tmp_path, lambda official: official)
    for path in (ade / "annotations/validation").iterdir():
        path.unlink()
    paint(ade / LABEL_MAP, 150)
    problem = the_problem("ade20k_semantic_val", tmp_path)
    assert "150" in problem.details[0]
    assert "these are ADE20K's official maps" in problem.what
    assert problem.fix == f"Run: possam data prepare ade20k_semantic --root {tmp_path} --overwrite"


def test_ade_maps_with_0_for_unlabeled(tmp_path):
    prepare_ade(tmp_path, lambda official: np.where(official == 0, 0, official - 1).astype(np.uint8))
    problem = the_problem("ade20k_semantic_val", tmp_path)
    assert "label maps have 0 (wall) where the official ones are unlabeled, 255 is expected there (2)" in str(problem)


def test_ade_maps_from_another_picture(ade):
    save(ade / LABEL_MAP, np.full((24, 32), 255, np.uint8))
    assert "differ from the official ones by more than" in the_problem("ade20k_semantic_val", ade.parent).what


def test_no_unlabeled_pixel_in_many_maps(tmp_path):
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
    assert "images of the annotation are missing; so many at once: an archive that was unpacked in part" in problem.what
    assert "(12 of 24)" in str(problem)


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
    assert problem.fix.startswith("Move the folders in")
