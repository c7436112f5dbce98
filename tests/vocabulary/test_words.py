from pathlib import Path

import pytest

from possam.demo.typed import read_typed
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
    assert split_words("cat, sofa|couch,lawn: stuff") == ["cat", "sofa|couch", "lawn: stuff"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no word to look for"),
        (["dog", " "], "word number 2 is empty"),
        (["dog, "], "a comma too many"),
        (["dog", "Dog"], "the name 'Dog' to two classes"),
        (["dog: animal"], "mark 'animal'.*'thing' and 'stuff'"),
        ([3], "must be a string, but is 3"),
        ("none.json", "no such vocabulary file"),
        (Path("none.txt"), r"neither a shipped list.*nor a \.json file"),
        (["names.txt"], "'names.txt' is the name of a file, not of a class"),
        (["dog", "mine.json"], "'mine.json' is the name of a file"),
        (["mini_a", "dog"], "give 'mini_a' alone, as a string"),
        (["dog\ncat"], "no name of a class: write names one a line"),
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
    for text in ("ADE20K 150", "Cityscapes"):
        with pytest.raises(ValueError, match="give '(ade20k_150|cityscapes)' alone"):
            read_line(text)


@pytest.mark.parametrize("read", [read_line, read_words, read_typed])
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("dog\ncat\nsofa", [("dog",), ("cat",), ("sofa",)]),
        ("dog, \r\n\r\n cat|kitten : thing,\n", [("dog",), ("cat", "kitten")]),
        ("\ufeffsky, cat", [("sky",), ("cat",)]),
        ("sky\u200b, traf\u00adfic light\u200e", [("sky",), ("traffic light",)]),
        ("cafe\u0301", [("caf\u00e9",)]),
        ("cup (for tea, coffee), dog [a|b, c: d]", [("cup (for tea, coffee)",), ("dog [a|b, c: d]",)]),
        ("\"traffic light, red\"|lamp, 'dog'", [("traffic light, red", "lamp"), ("dog",)]),
        ("10,000 yen note, 1,5 liter bottle", [("10,000 yen note",), ("1,5 liter bottle",)]),
        ("0,1,2", [("0",), ("1",), ("2",)]),
        ("0,1", [("0",), ("1",)]),
        ('24" screen, a), (b', [('24" screen',), ("a)",), ("(b",)]),
        ("striped star", [("striped star",)]),
    ],
)
def test_one_grammar_for_the_command_line_the_interface_and_the_page(read, text, names):
    assert [category.names for category in read(text).categories] == names


@pytest.mark.parametrize("read", [read_line, read_typed])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\u200b", "(?i)there is no word"),
        (" ,\n\ufeff\n", "(?i)there is no word"),
        ("dog,\u200b,cat", "word number 2 is empty"),
        ("sky, \u0301", "word number 2 is empty"),
        ("names.txt", "name of a file"),
        ("none.csv", "name of a file"),
        ("dog, mine.json", "name of a file"),
        ("ade20k_150\ndog", "'ade20k_150'"),
        ("dog; cat", "synonyms separated by |"),
        ("dog\tcat", "no name of a class"),
        ("\u72d7\uff0c\u732b", "no name of a class"),
        ("['dog', 'cat']", "brackets of a list"),
        ("- dog\n- cat", "no bullets"),
        ("1. dog\n2. cat", "no bullets"),
    ],
)
def test_a_strange_class_is_refused(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


def test_a_text_file_that_is_there_is_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("names.txt", "my.classes", "dog"):
        Path(name).write_text("dog\ncat\n")
    for name in ("names.txt", "my.classes", "./dog"):
        with pytest.raises(ValueError, match=r"is the name of a file.*\$\(cat names.txt\)"):
            read_line(name)
    assert read_line("dog").names == ("dog",), "a word, though there is a file of this name"


def test_a_table_may_follow_a_byte_order_mark_and_a_file_a_tilde(tmp_path, monkeypatch):
    assert read_line("\ufeff mini_a\n") == Vocabulary.load("mini_a")
    read_words(["a"]).to_json(tmp_path / "mine.JSON")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_line(" ~/mine.JSON ").names == ("a",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky: stuff: thing", "a mark in the name 'sky: stuff'"),
        ("sofa: thing|couch: thing", "a mark in the name 'sofa: thing'"),
        ("sky：stuff", "a mark in the name"),
        ("sky (stuff)", "a mark in the name"),
        ("sky - stuff", "a mark in the name"),
        ("./names", "name of a file"),
        ("~/lists/names", "name of a file"),
        ("/data/names", "name of a file"),
        ("photo.webp", "name of a file"),
        ("dog\\ncat", "without escapes"),
        ("$NAMES", "without escapes"),
        ("$(cat names)", "without escapes"),
        ("dog # barks", "without escapes"),
        ('"dog" "cat"', "without escapes"),
        ('("dog", "cat")', "without escapes"),
        ("dog\n---\ncat", "'---' is no name"),
        ("*", "is no name"),
    ],
)
@pytest.mark.parametrize("read", [read_line, read_typed])
def test_a_mark_in_the_wrong_place_a_path_code_and_punctuation_are_refused(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


@pytest.mark.parametrize(
    "name", ["AC/DC", "C++", "St. Bernard", "$100 bill", "50% off", "R2-D2", "🐶", "dog and cat", "bag (plastic)"]
)
def test_names_with_signs_are_taken(name):
    assert read_line(name).display_names == (name,)


@pytest.mark.parametrize("words", [None, 5, b"dog", {"dog": 1}, {"dog", "cat"}])
def test_words_without_an_order_or_of_another_type_are_refused(words):
    with pytest.raises(ValueError, match=r"text or a list, such as \["):
        read_words(words)


@pytest.mark.parametrize("hidden", ["\u034f", "\ufe0f", "\U000e0101", "\u200d", "\u2060"])
def test_characters_that_change_no_glyph_make_no_other_name(hidden):
    assert read_line(f"d{hidden}og{hidden}").display_names == ("dog",)


@pytest.mark.parametrize("name", ["👩\u200d🚒", "❤\ufe0f", "می\u200cخواهم"])
def test_joiners_and_selectors_that_change_a_glyph_stay(name):
    assert read_line(name).display_names == (name,)


def test_wide_characters_make_no_second_class():
    with pytest.raises(ValueError, match="to two classes"):
        read_line("ｄｏｇ, dog")
