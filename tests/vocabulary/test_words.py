import pytest

from possam.vocabulary import Vocabulary
from possam.vocabulary.words import read_line, read_words, split_words


def test_words_synonyms_and_marks():
    vocabulary = read_words(["dog", "sofa, couch", "lawn: stuff", "Sky", "grass:thing"])
    assert vocabulary.names == ("dog", "sofa", "couch", "lawn", "Sky", "grass")
    assert vocabulary.isthing == (True, True, False, False, True)
    assert vocabulary.contiguous_id == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}


def test_a_name_that_is_a_thing_in_one_list_stays_a_thing():
    """ADE20K and COCO disagree about some names; a thing is never swallowed into one mass by mistake."""
    assert read_words(["person", "car", "sky", "sand"]).isthing == (True, True, False, False)


def test_a_table_and_a_file_by_name(tmp_path):
    assert read_words("coco_panoptic") == Vocabulary.load("coco_panoptic")
    read_words(["a", "b"]).to_json(tmp_path / "mine.json")
    assert read_words(tmp_path / "mine.json").names == ("a", "b")


def test_a_line_of_words():
    assert split_words("cat, sofa|couch,lawn: stuff") == ["cat", "sofa, couch", "lawn: stuff"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no word to look for"),
        (["dog", " "], "word number 2 is empty"),
        (["dog, "], "a comma too many"),
        (["dog", "Dog"], "the name 'Dog' to two classes"),
        (["dog: animal"], "mark 'animal'.*'thing' and 'stuff'"),
        ([3], "must be a string, but is 3"),
        ("dog, cat", r"neither a shipped list.*give a list: \['dog', 'cat'\]"),
        ("none.json", "no such vocabulary file"),
    ],
)
def test_what_cannot_be_meant_is_said(words, message):
    with pytest.raises(ValueError, match=message):
        read_words(words)


def test_a_line_may_name_a_list():
    assert read_line("mini_a") == Vocabulary.load("mini_a")
    assert read_line("cat, sofa|couch").names == ("cat", "sofa", "couch")


def test_a_misspelt_table_is_no_word():
    with pytest.raises(ValueError, match="no shipped list.*Did you mean 'coco_panoptic'"):
        read_line("coco_panoptc")
    assert read_line("striped_star").names == ("striped_star",)
