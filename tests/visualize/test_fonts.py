import pytest
from PIL import ImageDraw, ImageFont

from possam.visualize import draw_panoptic, fonts, side_by_side


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


@pytest.fixture
def no_wide_font(monkeypatch):
    monkeypatch.setattr(fonts, "_WIDE_FONTS", ())
    fonts.readable.cache_clear()
    yield
    fonts.readable.cache_clear()


def test_what_no_font_has_is_written_in_latin_letters(no_wide_font):
    assert [fonts.readable(name) for name in ("猫", "дерево", "고양이", "cat")] == ["Mao", "derevo", "GoYangI", "cat"]
    assert fonts.shortened("猫", 14, 100) == "Mao"
    assert fonts.readable("\ue000") == "U+E000"
    for name in ("猫", "дерево", "\ue000", "étoile", "ねこ"):
        shown = fonts.readable(name)
        assert fonts._missing(fonts.font_for(shown, 15), shown) == 0


def test_a_font_that_has_the_letters_writes_them(monkeypatch):
    fonts.readable.cache_clear()
    monkeypatch.setattr(fonts, "_missing", lambda font, text: 0)
    assert fonts.readable("猫") == "猫"
    fonts.readable.cache_clear()


def test_no_picture_has_a_box_for_a_letter(scene, no_wide_font, monkeypatch):
    drawn = []
    real = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda pen, at, text, *a, **k: drawn.append(text) or real(pen, at, text, *a, **k)
    )
    image, ids, infos = scene()
    names = ["木", "海"]
    draw_panoptic(image, ids, infos, names)
    side_by_side(image, None, (ids, infos), names, title="森")
    assert {"Mu", "Hai"} <= set(drawn) and all(text.isascii() for text in drawn)
