import pytest
from PIL import ImageFont

from possam.visualize import fonts


def test_long_texts_are_cut_where_they_end():
    text = "a name that goes on and on"
    assert fonts.shortened(text, 14, 1000) == text
    cut = fonts.shortened(text, 14, 90)
    assert cut.endswith("...") and text.startswith(cut[:-3]) and fonts.text_width(cut, 14) <= 90
    longer = text[: len(cut) - 1]
    assert fonts.text_width(f"{longer}...", 14) > 90
    assert fonts.shortened(text, 14, 5) == ""
    assert fonts.shortened("", 14, 5) == ""


def test_ascii_is_written_with_the_font_that_is_everywhere():
    assert fonts.font_for("tree", 15).getname() == ImageFont.load_default(15).getname()


def test_other_letters_are_written_with_a_font_that_has_them():
    try:
        expected = ImageFont.truetype("DejaVuSans.ttf", 20)
    except OSError:
        pytest.skip("DejaVu Sans is not installed")
    font = fonts.font_for("Żółw дерево", 20)
    assert fonts._missing(font, "Żółw дерево") == 0
    assert fonts._missing(ImageFont.load_default(20), "дерево") == len(set("дерево"))
    assert fonts._missing(expected, "木") == 1
