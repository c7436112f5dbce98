"""Clicks on the page for whole pictures that refine a segment, and a tree of names typed into it."""

import json

import numpy as np
import pytest

from possam.demo.page import check_refining
from possam.demo.prompts import MODES
from possam.demo.refining import refine, restore
from possam.demo.segmenting import choose, describe_segment, path_in_words, segment, segment_of_click
from possam.demo.typed import read_tree_file, read_typed
from possam.engine import load_config, prepare_datasets
from possam.predict.predictor import Predictor
from possam.shipped import SAMPLE
from possam.vocabulary import Hierarchy
from tests.prompted_models import Squares

ON, OUTSIDE, BOX = MODES
TREE = {
    "thing": {"heart": ["striped heart"], "flower": ["striped flower"], "gear": ["checkered gear"]},
    "snow: stuff": {},
    "gravel: stuff": {},
    "tile: stuff": {},
}


@pytest.fixture(scope="module")
def prompter(tmp_path_factory):
    cfg = load_config("configs/mini/possam.yaml", ["MODEL.TEXT_CACHE", str(tmp_path_factory.mktemp("text"))])
    prepare_datasets(cfg)
    return Predictor(Squares.from_config(cfg))


def info_of(shown, label):
    (info,) = [info for info in shown.segmentation.segments_info if info["label"] == label]
    return info


def test_the_segments_box_is_the_prompt_until_one_is_drawn(shown, prompter):
    info = info_of(shown, "striped heart")
    x, y, width, height = info["bbox"]
    chosen = choose(shown, info["id"])
    assert chosen.picture is shown.picture and chosen.segmentation is shown.segmentation
    prompter.set_image(shown.segmentation.image)

    def check(refined, box, points, labels):
        mask = prompter.prompt(boxes=box, points=points, labels=labels).masks[0]
        assert mask.any() and np.array_equal(refined.segmentation.segmentation == info["id"], mask)
        assert refined.clicks.prompted_box == tuple(box)

    # The sample of 128 pixels is shown four times as large: 4 i + 2 is an eighth of a pixel behind pixel i's center.
    one = refine(prompter, chosen, 10, 14, OUTSIDE)
    check(one, [x, y, x + width, y + height], [[2.125, 3.125]], [0])
    assert info_of(one, "striped heart")["refined"] and not np.array_equal(one.picture, shown.picture)
    wider = refine(prompter, one, 4 * 120 + 2, 4 * (y + 3) + 2, ON)
    check(wider, [x, y, 121.125, y + height], [[2.125, 3.125], [120.125, y + 3.125]], [0, 1])
    assert wider.clicks.image is one.clicks.image and wider.before is shown.segmentation
    waiting = refine(prompter, wider, 4 * 10 + 2, 4 * 20 + 2, BOX)
    drawn = refine(prompter, waiting, 4 * 29 + 2, 4 * 49 + 2, BOX)
    check(drawn, [10.125, 20.125, 30.125, 50.125], [[2.125, 3.125], [120.125, y + 3.125]], [0, 1])


def test_refinements_are_undone_or_done_with(shown, prompter):
    info = info_of(shown, "striped heart")
    refined = refine(prompter, choose(shown, info["id"]), 4, 4, OUTSIDE)
    undone = restore(refined)
    assert undone.segmentation is shown.segmentation and undone.chosen == info["id"] and undone.before is None
    assert np.array_equal(undone.picture, shown.picture) and undone.rows == shown.rows and restore(undone) is undone
    other = info_of(shown, "snow")["id"]
    next_one = choose(refined, other)
    assert next_one.segmentation is refined.segmentation and next_one.rows == refined.rows
    assert next_one.clicks.image is refined.clicks.image and not next_one.clicks.given
    assert not np.array_equal(next_one.picture, refined.picture)  # the clicks' marks are gone
    again = refine(prompter, next_one, 4, 4, OUTSIDE)
    assert again.before is refined.segmentation and again.clicks.points == ((0.625, 0.625),)
    assert describe_segment(again, info["id"]) == describe_segment(shown, info["id"])


def test_the_name_may_be_taken_too(shown, prompter):
    info = info_of(shown, "striped heart")
    refined = refine(prompter, choose(shown, info["id"]), 4, 4, OUTSIDE, rename=True)
    (after,) = [one for one in refined.segmentation.segments_info if one["id"] == info["id"]]
    assert after["label"] == refined.clicks.result.labels[0]


def test_mistakes_of_refining_are_sentences(predictor, shown, prompter):
    info = info_of(shown, "striped heart")
    for act, message in (
        (lambda: refine(prompter, shown, 4, 4, ON), "There is no segment to refine"),
        (lambda: refine(prompter, choose(shown, info["id"]), 512, 4, ON), "outside the picture of 512×512"),
        (lambda: refine(prompter, choose(shown, info["id"]), 4, 4, "on"), "a click is 'on', but must be one of"),
        (lambda: check_refining(prompter, prompter), "Squares makes masks of prompts itself"),
        (lambda: check_refining(predictor, predictor), "PosSAM takes no prompts"),
    ):
        with pytest.raises(ValueError, match=message):
            act()


def test_a_tree_names_segments_level_by_level(predictor):
    shown = segment(predictor, str(SAMPLE), json.dumps(TREE))
    expected = predictor(str(SAMPLE), Hierarchy.from_tree(TREE))
    assert np.array_equal(shown.segmentation.segmentation, expected.segmentation)
    info = info_of(shown, "striped heart")
    first, second, third = (level["probability"] for level in info["path"])
    assert path_in_words(shown, info["id"]) == (
        f"Level by level: **thing** {first:.2f} → **heart** {second:.2f} → **striped heart** {third:.2f} "
        f"(together {first * second * third:.2f})."
    )
    sure = segment(predictor, str(SAMPLE), json.dumps(TREE), stop_below=1.0)
    assert {row[1] for row in sure.rows} <= {"thing", "heart", "flower", "gear", "snow", "gravel", "tile"}
    assert {info["path"][-1]["label"] for info in sure.segmentation.segments_info} == {row[1] for row in sure.rows}
    assert not np.array_equal(sure.picture, shown.picture)


def test_names_of_a_list_have_no_path(shown):
    assert path_in_words(shown, segment_of_click(shown, 20, 400)) == ""


def test_bad_trees_are_named(tmp_path, predictor, prompter):
    for text, message in (
        ('{"thing": {"cat": {}', "the tree is not valid JSON"),
        ('{"thing": {"cat": {"thing": {}}}}', "the tree has a cycle"),
        ('{"animal": ["cat"], "pet": ["cat"]}', "below two parents"),
        ("{}", "the tree has no names"),
        ('{"thing": 3}', "must be an object of names"),
        (json.dumps({f"name{i}": {} for i in range(5001)}), "There are 5001 names, but this page takes at most 5000"),
    ):
        with pytest.raises(ValueError, match=message):
            read_typed(text)
        (tmp_path / "tree.json").write_text(text)
        with pytest.raises(ValueError, match=message.replace("the tree", r"tree\.json", 1)):
            read_tree_file(tmp_path / "tree.json")
    (tmp_path / "tree.json").write_text(json.dumps(TREE))
    assert read_typed(read_tree_file(tmp_path / "tree.json")).parents == Hierarchy.from_tree(TREE).parents
    (tmp_path / "tree.json").write_text(json.dumps(TREE) + " " * 100_000)
    with pytest.raises(ValueError, match="letters, but this page takes at most 100000"):
        read_tree_file(tmp_path / "tree.json")
    (tmp_path / "tree.json").write_bytes(b"\xff\xfe{\x00")
    with pytest.raises(ValueError, match="tree.json is not"):
        read_tree_file(tmp_path / "tree.json")
