"""Base and novel classes of the field's splits."""

import pytest

from possam.vocabulary import Vocabulary
from possam.vocabulary.splits import find_split, split_names

NOVEL = """airplane, bus, cat, dog, cow, elephant, umbrella, tie, snowboard, skateboard, cup, knife, cake, couch,
keyboard, sink, scissors"""  # Bansal et al., Zero-Shot Object Detection


@pytest.mark.parametrize("name", split_names())
def test_a_split_divides_its_table(name):
    split = find_split(name)
    table = Vocabulary.load(split.table)
    _, base, novel = name.split("_")
    assert split.name == name and not set(split.base) & set(split.novel)
    assert (len(set(split.base)), len(set(split.novel))) == (int(base), int(novel))
    for vocabulary, kept in (
        (split.restrict(table), {*split.base, *split.novel}),
        (split.restrict(table, base_only=True), set(split.base)),
    ):
        assert set(vocabulary.display_names) == kept
        assert [c for c in table.categories if c in vocabulary.categories] == list(vocabulary.categories)
        assert all(vocabulary.isthing)
    assert split.restrict(table).name != split.restrict(table, base_only=True).name


def test_the_novel_classes_of_coco():
    split = find_split("coco_48_17")
    assert set(split.novel) == {name.strip() for name in NOVEL.replace("\n", " ").split(",")}
    both = split.restrict(Vocabulary.load("coco_panoptic"))
    assert sum(split.is_base(both)) == 48 and sum(split.is_novel(both)) == 17
    others = set(Vocabulary.load("coco_panoptic").things().display_names) - set(both.display_names)
    assert len(others) == 15 and {"hot dog", "hair drier", "wine glass"} <= others


def test_the_split_of_lvis_has_every_class():
    split, table = find_split("lvis_866_337"), Vocabulary.load("lvis")
    assert [b != n for b, n in zip(split.is_base(table), split.is_novel(table), strict=True)] == [True] * 1203
    assert {"applesauce", "apricot", "armoire"} <= set(split.novel) and {"airplane", "alcohol"} <= set(split.base)


def test_the_split_of_the_miniature_world_is_what_its_training_has_drawn():
    split = find_split("mini_12_14")
    things = Vocabulary.load("mini_b").things()
    assert split.is_base(things) == things.seen(Vocabulary.load("mini_a"))
    assert split.is_novel(things) == tuple(not seen for seen in split.is_base(things))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="unknown split 'coco_48'; the splits are coco_48_17, lvis_866_337, mini_"):
        find_split("coco_48")
    with pytest.raises(ValueError, match="the vocabulary 'lvis' lacks classes of coco_48_17"):
        find_split("coco_48_17").restrict(Vocabulary.load("lvis"))


@pytest.mark.parametrize(("name", "classes"), [("coco_48_17", 65), ("coco_48_17_base", 48), ("lvis_866_337_base", 866)])
def test_the_classes_of_a_split_are_a_vocabulary_by_its_name(name, classes):
    vocabulary = Vocabulary.load(name)
    assert vocabulary.name == name and len(vocabulary) == classes
    split = find_split(name.removesuffix("_base"))
    assert set(vocabulary.display_names) == {*split.base, *(() if name.endswith("_base") else split.novel)}
