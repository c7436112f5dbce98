"""The whole examination: of good trees, of trees that are not there, in processes."""

import pytest

from possam.data.datasets import find_spec
from possam.data.doctor import ABSENT, Problem, is_there
from possam.data.doctor.problem import gather
from tests.data.doctor.planting import (
    IMAGE,
    IMAGES,
    INSTANCES,
    as_it_should,
    cut,
    prepare_ade,
    problems_of,
    the_problem,
)
from tests.layouts import make_ade20k, make_coco


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["coco_panoptic_train", "coco_panoptic_val", "coco_instance_val"])
def test_a_good_tree_has_no_problem(coco, name, full):
    assert problems_of(name, coco, full=full) == []
    assert is_there(find_spec(name), coco) == "yes"


def test_links_are_followed_and_circles_of_them_are_not(tmp_path):
    prepare_ade(tmp_path, as_it_should)
    data = tmp_path / "ADEChallengeData2016"
    for folder in (data / "images/validation", data / "annotations_detectron2/validation"):
        folder.rename(tmp_path / folder.parent.name)
        folder.symlink_to(tmp_path / folder.parent.name)
        for name in ("back", "again", "round"):  # folders below each other without end, three more on every floor
            (folder / name).symlink_to(folder)
    assert problems_of("ade20k_semantic_val", tmp_path) == []


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


def test_a_dataset_that_is_not_there_is_one_problem(tmp_path):
    problem = the_problem("ade20k_semantic_val", tmp_path)
    assert problem.kind == ABSENT
    folder = "ADEChallengeData2016/images/validation, ADEChallengeData2016/annotations_detectron2/validation"
    assert str(problem) == f"not there, {tmp_path} has no [{folder}]"
    assert "sceneparsing.csail.mit.edu" in problem.fix
    assert problem.fix.endswith(f"Run: possam data prepare ade20k_semantic --root {tmp_path}")
    assert is_there(find_spec("ade20k_semantic_val"), tmp_path) == "no"


def test_a_dataset_that_is_not_prepared(tmp_path):
    make_ade20k(tmp_path, images=IMAGES)
    problem = the_problem("ade20k_semantic_val", tmp_path)
    assert problem.kind == ABSENT
    assert str(problem) == (
        f"not prepared, {tmp_path} has no [ADEChallengeData2016/annotations_detectron2/validation]"
    )
    assert problem.fix == f"Run: possam data prepare ade20k_semantic --root {tmp_path}"


def test_a_part_that_is_not_there(coco):
    (coco / INSTANCES).unlink()
    assert is_there(find_spec("coco_panoptic_val"), coco) == "in part"
    problem = the_problem("coco_panoptic_val", coco)
    assert (problem.kind, problem.where, str(problem)) == ("missing", str(coco / INSTANCES), "does not exist")


def test_the_root_is_said_only_where_it_was_given(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert the_problem("ade20k_semantic_val", None).fix.endswith("possam data prepare ade20k_semantic")


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
    assert problem.fix.endswith(" --overwrite")
    assert problem.to_json()["values"] == [180, 181] or len(problem.values) == 1


def test_gathering_parts_first_changes_nothing():
    problems = [
        Problem(kind="k", where=f"/a/{n}", what="w", fix="m", details=(f"d{n}",), values=frozenset([n]))
        for n in range(6)
    ]
    whole = gather(problems)
    assert gather([*gather(problems[:4]), *gather(problems[4:])]) == whole
    assert (whole[0].count, whole[0].details, whole[0].where) == (6, ("d0", "d1", "d2"), "/a")
    assert whole[0].values == frozenset(range(6))
