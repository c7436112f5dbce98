"""The shipped class tables against facts that are published with the datasets."""

import json
import time

import pytest

from possam.vocabulary import VILD_TEMPLATES, Vocabulary, fold_name, table_names
from possam.vocabulary.templates import fill_template

# table: classes, things, (position, dataset id, dataset name) of some classes
FACTS = {
    "coco_panoptic": (133, 80, [(0, 1, "person"), (79, 90, "toothbrush"), (132, 200, "rug-merged")]),
    "coco_stuff": (171, 80, [(11, 13, "stop sign"), (79, 90, "toothbrush"), (80, 92, "banner"), (170, 182, "wood")]),
    "ade20k_150": (150, 100, [(0, 0, "wall"), (1, 1, "building, edifice"), (149, 149, "flag")]),
    "ade20k_847": (847, None, [(0, 2978, "wall"), (1, 312, "building, edifice"), (5, 976, "floor, flooring")]),
    "pascal_context_59": (59, None, [(0, 2, "aeroplane"), (36, 284, "person"), (58, 458, "wood")]),
    "pascal_context_459": (459, None, [(1, 2, "aeroplane"), (283, 284, "person"), (458, 459, "wool")]),
    "pascal_voc_20": (20, 20, [(0, 1, "aeroplane"), (14, 15, "person"), (19, 20, "tvmonitor")]),
    "pascal_voc_21": (21, 20, [(0, 0, "background"), (1, 1, "aeroplane"), (20, 20, "tvmonitor")]),
    "cityscapes": (19, 8, [(0, 7, "road"), (2, 11, "building"), (11, 24, "person"), (18, 33, "bicycle")]),
    "mapillary_vistas": (65, 37, [(0, 1, "Bird"), (13, 14, "Road"), (55, 56, "Car"), (64, 65, "Ego Vehicle")]),
    "lvis": (1203, 1203, [(0, 1, "aerosol_can"), (792, 793, "person"), (1202, 1203, "zucchini")]),
    "mini_a": (30, 24, [(0, 1, None)]),
    "mini_b": (34, 26, [(0, 1, None)]),
}


def test_every_table_has_its_facts_checked():
    assert sorted(FACTS) == table_names()


@pytest.mark.parametrize("name", FACTS)
def test_a_table_has_the_classes_of_its_dataset(name):
    count, things, classes = FACTS[name]
    table = Vocabulary.load(name)
    assert (table.name, len(table)) == (name, count)
    assert table.source, "people must learn where the list comes from"
    if things is not None:
        assert sum(table.isthing) == things
    for position, dataset_id, dataset_name in classes:
        category = table.categories[position]
        assert category.dataset_id == dataset_id
        assert dataset_name is None or category.dataset_name == dataset_name


def test_tables_are_in_the_order_of_the_prepared_label_maps():
    cityscapes = Vocabulary.load("cityscapes")
    assert cityscapes.display_names[:2] == ("road", "sidewalk") and cityscapes.display_names[-1] == "bicycle"
    assert [c.dataset_id for c in Vocabulary.load("ade20k_150").categories] == list(range(150))
    assert [c.dataset_id for c in Vocabulary.load("lvis").categories] == list(range(1, 1204))
    assert [c.dataset_id for c in Vocabulary.load("mapillary_vistas").categories] == list(range(1, 66))
    stuff = Vocabulary.load("coco_stuff")
    assert stuff.isthing == (True,) * 80 + (False,) * 91
    panoptic = Vocabulary.load("coco_panoptic")
    assert panoptic.isthing == (True,) * 80 + (False,) * 53
    assert stuff.things().names == panoptic.things().names, "things of COCO are called alike everywhere"
    assert Vocabulary.load("ade20k_150").display_names[12] == "person"


def test_coco_reads_without_the_datasets_bookkeeping():
    for table in map(Vocabulary.load, ("coco_panoptic", "coco_stuff")):
        ids = list(table.contiguous_id)
        assert ids == sorted(ids)
        assert not [name for name in table.names if any(part in name for part in ("-merged", "-stuff", "-other"))]
    wall = Vocabulary.load("coco_panoptic").categories[-2]
    assert (wall.dataset_id, wall.names[0], wall.dataset_name) == (199, "wall", "wall-other-merged")


def test_voc_with_and_without_background_differ_in_background_alone():
    without, background = Vocabulary.load("pascal_voc_20"), Vocabulary.load("pascal_voc_21")
    assert background.categories[1:] == without.categories
    assert not background.categories[0].isthing and len(background.categories[0].names) > 10


def test_names_read_as_words():
    for name in table_names():
        for word in Vocabulary.load(name).names:
            assert not set("_()/;:") & set(word), (name, word)


def test_a_datasets_own_name_is_no_name_of_another_class():
    for table in map(Vocabulary.load, table_names()):
        owner = {fold_name(name): table.name_class[i] for i, name in enumerate(table.names)}
        for index, category in enumerate(table.categories):
            own = fold_name(category.dataset_name.replace("_", " "))
            # ADE20K's list has "pier" twice, of a bridge and at the sea.
            if (table.name, category.dataset_id) != ("ade20k_847", 1857):
                assert owner.get(own, index) == index, (table.name, category.dataset_name)


def test_every_name_fits_into_clips_context_with_the_longest_template():
    tokenizer = pytest.importorskip("open_clip").SimpleTokenizer()
    template = max(VILD_TEMPLATES, key=len)
    for name in table_names():
        for word in Vocabulary.load(name).names:
            # Beginning and end take one token each.
            assert len(tokenizer.encode(fill_template(template, word))) + 2 <= 77, (name, word)


def test_large_tables_load_at_once():
    start = time.perf_counter()
    for name in ("lvis", "ade20k_847"):
        Vocabulary.load(name)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, json.dumps(["x" * 100_000])])
def test_a_file_of_something_else_is_named_in_few_words(tmp_path, text):
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(ValueError, match="odd.json") as caught:
        Vocabulary.from_file(tmp_path / "odd.json")
    assert len(str(caught.value)) < 1000


def test_half_of_a_character_is_refused(tmp_path):
    table = {"name": "own", "classes": [{"id": 0, "names": ["a\ud83e"], "isthing": 1}]}
    (tmp_path / "odd.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match=r"odd.json: class number 0: .*half of a character at position 1"):
        Vocabulary.from_file(tmp_path / "odd.json")
