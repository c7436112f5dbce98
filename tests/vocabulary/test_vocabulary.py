import hashlib
import json
import re

import pytest

from possam.vocabulary import Category, Vocabulary, fold_name, table_names


def category(*names, isthing=True, dataset_id=0, **more):
    return Category(names=names, isthing=isthing, dataset_id=dataset_id, **more)


def vocabulary(*categories, name="test"):
    return Vocabulary(name=name, categories=categories)


def test_names_and_their_classes_stay_aligned():
    words = Vocabulary.from_names(["sofa, couch", "sky", "cat,kitten , tabby"], isthing=[True, False, True])
    assert len(words) == 3
    assert words.names == ("sofa", "couch", "sky", "cat", "kitten", "tabby")
    assert words.name_class == (0, 0, 1, 2, 2, 2)
    assert words.display_names == ("sofa", "sky", "cat")
    assert words.isthing == (True, False, True)
    assert words.contiguous_id == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: vocabulary(), "has no classes"),
        (lambda: Vocabulary.from_names([]), "has no classes"),
        (lambda: Vocabulary(name=" ", categories=(category("a"),)), "needs a name"),
        (lambda: category(""), "empty name"),
        (lambda: category("sofa", " \t"), "empty name"),
        (lambda: category("\u200b"), "empty name"),
        (lambda: category("\u2800\u3164"), "empty name"),
        (lambda: category("\ufe0f"), "empty name"),
        (lambda: category("sofa", "so\u200bfa"), "twice"),
        (lambda: Vocabulary.from_names(["sky", "sofa, "]), "class number 1 (counted from 0) of 'custom': class with"),
        (lambda: Vocabulary.from_names(["sky", " "]), "an empty name among ['']"),
        (lambda: Vocabulary.from_names(["sky", "sofa, Sofa"]), "lists the name 'Sofa' twice; remove one of the two"),
        (
            lambda: Vocabulary.from_names(["sofa", "sky", "couch, SOFA"]),
            "gives the name 'SOFA' to two classes, number 0 'sofa' and number 2 'couch' (counted from 0)",
        ),
        (lambda: category(), "has no name"),
        (lambda: Category(names="sofa", isthing=True, dataset_id=1), "sequence of strings"),
        (lambda: category("sofa", "SOFA "), "twice"),
        (lambda: category("a", isthing=1), "isthing of class 'a' must be True"),
        (lambda: category("a", dataset_id=-1), "int ≥ 0"),
        (lambda: category("a", dataset_id=True), "int ≥ 0"),
        (lambda: vocabulary(category("a"), category("A", dataset_id=1)), "number 0 'a' and number 1 'A'"),
        (lambda: vocabulary(category("sky", isthing=False)).things(), "'test' has no things"),
        (lambda: vocabulary(category("a"), category("b")), "dataset id 0 for both 'a' and 'b'"),
        (lambda: Vocabulary.from_names("sofa"), "write ['sofa']"),
        (lambda: Vocabulary.from_names(["a", "b"], isthing=[True]), "1 entries for 2 classes"),
        (lambda: Vocabulary.from_names(["a"], isthing=[1]), "must be True (thing) or False"),
        (lambda: Vocabulary.from_coco_categories([{"name": "a"}], "x"), "lacks ['id']"),
        (
            lambda: Vocabulary.from_coco_categories([{"id": 1, "name": "a", "isthing": 2}], "x"),
            "must be 0 or 1",
        ),
    ],
)
def test_mistakes_are_answered_with_what_came_and_what_to_do(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


def test_names_are_stored_with_single_blanks():
    assert category("  traffic   light ").names == ("traffic light",)
    assert fold_name(" Traffic\tLIGHT ") == "traffic light"


def test_invisible_characters_are_no_part_of_a_name():
    """Joiners stay where they shape what is seen; a name that was read back is the same."""
    names = ("\ufeffsky\u200b", "cafe\u0301", "\u0645\u06cc\u200c\u062e", "\U0001f469\u200d\U0001f680", "a\x00b")
    clean = category(*names).names
    assert clean == ("sky", "caf\u00e9", *names[2:4], "ab")
    assert category(*clean).names == clean


def test_exact_overlap_folds_case_and_space_and_looks_at_every_name():
    train = Vocabulary.from_names(["Sofa, couch", "traffic light", "sea"])
    test = Vocabulary.from_names(["settee, COUCH", "Traffic  Light", "seas", "ocean"])
    assert test.exact_overlap(train) == (True, True, False, False)


def test_the_fingerprint_is_that_of_the_names_in_their_order():
    words = Vocabulary.from_names(["sofa, couch", "sky"], name="a")
    assert words.sha256 == Vocabulary.from_names(["sofa, couch", "sky"], isthing=False, name="b").sha256
    others = (["couch, sofa", "sky"], ["sky", "sofa, couch"], ["sofa", "couch, sky"], ["sofa", "couch", "sky"])
    assert len({words.sha256, *(Vocabulary.from_names(names).sha256 for names in others)}) == 5


def test_things_keep_their_order_ids_and_names():
    sofa, cat = category("sofa", "couch", dataset_id=7), category("cat", dataset_id=3)
    sky = category("sky", isthing=False, dataset_id=5)
    things = vocabulary(sofa, sky, cat).things()
    assert (things.name, things.categories) == ("test_things", (sofa, cat))


def test_coco_categories_keep_order_ids_and_the_datasets_spelling():
    words = Vocabulary.from_coco_categories(
        [{"id": 7, "name": "wall, wall-other", "isthing": 0}, {"id": 3, "name": "cat"}], "x"
    )
    assert words.contiguous_id == {7: 0, 3: 1}
    assert words.categories[0].names == ("wall", "wall-other")
    assert words.categories[0].dataset_name == "wall, wall-other"
    assert words.isthing == (False, True)


def names_of(*names):
    categories = [{"id": index, "name": name} for index, name in enumerate(names)]
    return [category.names for category in Vocabulary.from_coco_categories(categories, "x").categories]


def test_commas_inside_brackets_quotes_and_numbers_belong_to_the_name():
    assert names_of("cup (for tea, coffee), mug") == [("cup (for tea, coffee)", "mug")]
    assert names_of("10,000 yen note", "1,5 l bottle") == [("10,000 yen note",), ("1,5 l bottle",)]
    assert names_of('"salt, pepper"', "tv|monitor") == [("salt, pepper",), ("tv|monitor",)]
    assert Vocabulary.from_names(["cup [tea, coffee], mug"]).names == ("cup [tea, coffee]", "mug")


def test_categories_that_share_names_are_told_apart(caplog):
    lights = ("traffic light, red", "Traffic light, green", "traffic light")
    assert names_of(*lights) == [(light,) for light in lights]
    assert names_of("screen door, screen", "blind, screen") == [("screen door",), ("blind",)]
    assert "['screen']" in caplog.text
    assert names_of("pot, flowerpot", "toilet, pot") == [("pot", "flowerpot"), ("toilet",)]
    with pytest.raises(ValueError, match="gives the name 'cat' to two classes"):
        names_of("cat", "cat")


def test_a_written_table_reads_back_equal(tmp_path):
    words = vocabulary(
        category("sofa", "canapé", dataset_id=5, dataset_name="sofa-other"),
        category("sky", isthing=False, dataset_id=2),
    )
    words.to_json(tmp_path / "deep" / "table.json")
    assert Vocabulary.from_file(tmp_path / "deep" / "table.json") == words
    assert Vocabulary.load(tmp_path / "deep" / "table.json") == words
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["table.json"], "no temporary file stays"


GOOD = {"name": "x", "classes": [{"id": 1, "names": ["a"], "isthing": 1}]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "expected a JSON object"),
        ({"classes": []}, "missing name"),
        (GOOD | {"clases": []}, "unknown key 'clases'; the valid ones are name, source, classes"),
        (GOOD | {"classes": []}, "has no classes"),
        (GOOD | {"shared_names": 1}, "shared_names must be true or false, got 1"),
        (GOOD | {"classes": {}}, "classes must be of type list"),
        (GOOD | {"classes": [{"id": 1, "names": ["a"]}]}, "class number 0: missing isthing"),
        (GOOD | {"classes": [{"id": "1", "names": ["a"], "isthing": 1}]}, "id must be of type"),
        (GOOD | {"classes": [{"id": 1, "names": "a", "isthing": 1}]}, "names must be of type list"),
        (GOOD | {"classes": [{"id": 1, "names": [3], "isthing": 1}]}, "names must hold strings only"),
        (GOOD | {"classes": [{"id": 1, "names": ["a"], "isthing": "thing"}]}, "isthing must be 1 (thing)"),
        (GOOD | {"classes": [{"id": 1, "names": [""], "isthing": 1}]}, "number 0: class with dataset id"),
        (GOOD | {"classes": [*GOOD["classes"], {"id": 2, "names": ["b", "B "], "isthing": 0}]}, "number 1: class 'b'"),
        (
            GOOD | {"classes": [*GOOD["classes"], {"id": 2, "names": ["b", "A"], "isthing": 0}]},
            "gives the name 'A' to two classes, number 0 'a' and number 1 'b'",
        ),
        (GOOD | {"classes": GOOD["classes"] * 2}, "to two classes, number 0 'a' and number 1 'a'"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(tmp_path, table, message):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(table))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Vocabulary.from_file(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_json_or_not_there_is_refused(tmp_path):
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(ValueError, match="not a JSON file"):
        Vocabulary.from_file(tmp_path / "t.json")
    with pytest.raises(ValueError, match="no such vocabulary file"):
        Vocabulary.load(tmp_path / "absent.json")


def test_an_unknown_table_lists_the_shipped_ones():
    with pytest.raises(ValueError, match=r"unknown vocabulary 'ade150'. Did you mean 'ade20k_150'\?.*coco_panoptic"):
        Vocabulary.load("ade150")


# Of the names, kinds and ids of every shipped table; a change makes their results other results.
SHIPPED = "d3f05022f19913a96d0a2d4576a219cff697a5251e582f47cca53a7a8715a4af"


def test_the_shipped_tables_have_not_changed():
    content = [
        [name, [[c.names, c.isthing, c.dataset_id, c.dataset_name] for c in Vocabulary.load(name).categories]]
        for name in table_names()
    ]
    assert hashlib.sha256(json.dumps(content).encode()).hexdigest() == SHIPPED
