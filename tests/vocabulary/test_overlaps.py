"""Seen and unseen classes: the shipped overlaps, when they apply, and that they are up to date."""

import json
from dataclasses import replace

import pytest

from possam.vocabulary import Category, Vocabulary, overlap_names, overlaps
from possam.vocabulary.overlaps import OVERLAP_RULE, __main__, divide, find_overlap, write_overlap

# The classes of ADE20K that the field counts as seen in COCO, by the first word of ADE20K's own name.
FIELDS_64 = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, door, table,
mountain, plant, curtain, chair, car, water, sofa, shelf, sea, mirror, rug, fence, rock, lamp, counter, sand, sink,
refrigerator, stairs, pillow, river, bridge, toilet, flower, book, bench, palm, boat, bus, towel, light, truck,
television, airplane, apparel, bottle, tent, oven, food, microwave, pot, animal, bicycle, blanket, vase,
traffic light, plate, glass, clock
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in place of the package's."""
    monkeypatch.setattr(overlaps, "_FOLDER", tmp_path)
    find_overlap.cache_clear()
    yield tmp_path
    find_overlap.cache_clear()


def words(name, *categories):
    return Vocabulary(
        name=name,
        categories=tuple(
            Category(names=names, isthing=isthing, dataset_id=i) for i, (names, isthing) in enumerate(categories)
        ),
    )


def test_the_overlaps_of_the_overlap_rule_are_what_the_tables_give():
    fix = "a table has changed: run python -m possam.vocabulary.overlaps, which raises the version"
    computed = __main__.computed_overlaps()
    for overlap in computed:
        shipped = find_overlap(overlap.train, overlap.test)
        assert shipped is not None, f"{overlap.train} to {overlap.test} is missing: {fix}"
        assert replace(overlap, version=shipped.version) == shipped, fix
    others = set(overlap_names()) - {f"{m.train}_to_{m.test}" for m in computed}
    assert others == {"mini_a_to_mini_b"}
    assert find_overlap("mini_a", "mini_b").rule != OVERLAP_RULE


@pytest.mark.parametrize("name", overlap_names())
def test_an_overlap_divides_the_test_table(name):
    train, test = (Vocabulary.load(table) for table in name.split("_to_"))
    overlap = test.overlap(train)
    assert overlap is not None and overlap.version >= 1
    seen = test.seen(train)
    assert tuple(n for n, s in zip(test.display_names, seen, strict=True) if s) == overlap.seen
    assert tuple(n for n, s in zip(test.display_names, seen, strict=True) if not s) == overlap.unseen


def test_coco_shows_the_64_classes_of_ade20k_that_the_field_counts():
    ade, coco = Vocabulary.load("ade20k_150"), Vocabulary.load("coco_panoptic")
    seen = [c.dataset_name.split(",")[0] for c, s in zip(ade.categories, ade.seen(coco), strict=True) if s]
    assert seen == [name.strip() for name in FIELDS_64.split(",")]
    assert (len(ade.overlap(coco).seen), len(ade.overlap(coco).unseen)) == (64, 86)


def test_the_things_of_a_table_have_its_overlap():
    ade, coco = Vocabulary.load("ade20k_150"), Vocabulary.load("coco_panoptic")
    things = ade.things()
    assert things.name == "ade20k_150_things" and len(things) == 100 and all(things.isthing)
    assert things.display_names == tuple(n for n, t in zip(ade.display_names, ade.isthing, strict=True) if t)
    expected = tuple(s for s, t in zip(ade.seen(coco), ade.isthing, strict=True) if t)
    assert things.seen(coco) == expected
    overlap = things.overlap(coco)
    assert len(overlap.seen) == sum(expected) and len(overlap.seen) + len(overlap.unseen) == 100
    assert overlap.version == ade.overlap(coco).version


def test_an_overlap_holds_for_the_very_names_of_its_tables_only(folder):
    train = words("a", (("ring",), True), (("grass",), False))
    test = words("b", (("hoop",), True), (("grass",), False))
    assert test.overlap(train) is None and test.seen(train) == (False, True)
    path = write_overlap(divide(train, test, (True, False), rule="the same drawing"))
    assert path == folder / "a_to_b.json"
    assert test.seen(train) == (True, False), "an overlap decides, also against equal names"
    other_test = words("b", (("hoop", "ring"), True), (("grass",), False))
    other_train = words("a", (("ring", "hoop"), True), (("lawn",), False))
    for one, two in ((train, other_test), (other_train, test)):
        assert two.overlap(one) is None and two.seen(one) == two.exact_overlap(one)


def test_the_command_raises_the_version_of_what_has_changed_only(folder, capsys):
    __main__.main()
    first = capsys.readouterr().out.splitlines()
    assert len(first) == 20 and "coco_panoptic_to_ade20k_150.json: version 1, 64 seen, 86 unseen" in first
    __main__.main()
    assert capsys.readouterr().out == ""
    written = find_overlap("coco_panoptic", "cityscapes")
    write_overlap(replace(written, test_sha256="that of an older table", version=3))
    __main__.main()
    assert capsys.readouterr().out == "coco_panoptic_to_cityscapes.json: version 4, 16 seen, 3 unseen\n"


def test_a_file_that_is_no_overlap_is_named(folder):
    (folder / "a_to_b.json").write_text('{"train": "a"}')
    with pytest.raises(ValueError, match=r"a_to_b\.json: expected the keys train, test, version"):
        find_overlap("a", "b")


@pytest.mark.parametrize(
    ("key", "value"), [("seen", None), ("seen", [1]), ("unseen", "cat"), ("version", "1"), ("rule", 2)]
)
def test_a_value_of_the_wrong_type_is_named(folder, key, value):
    path = write_overlap(divide(words("a", (("dog",), True)), words("b", (("cat",), True)), (False,), rule="any"))
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    find_overlap.cache_clear()
    with pytest.raises(ValueError, match=rf"a_to_b\.json: {key} must be of type"):
        find_overlap("a", "b")
