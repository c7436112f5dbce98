import pytest

from possam.vocabulary.templates import VILD_TEMPLATES, article, check_templates, fill_template


def test_there_are_fourteen_different_templates_with_one_place_each():
    assert len(set(VILD_TEMPLATES)) == len(VILD_TEMPLATES) == 14
    assert check_templates(VILD_TEMPLATES) == VILD_TEMPLATES
    assert fill_template(VILD_TEMPLATES[0], "cat") == "a photo of a cat."


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cat", "a"), ("apple", "an"), ("Orange", "an"), ("unicycle", "a"), ("hourglass", "an"), ("owl", "an")],
)
def test_the_article_follows_the_sound(name, expected):
    assert article(name) == expected
    assert fill_template("There is {article} {} here", name) == f"There is {expected} {name} here"


@pytest.mark.parametrize("wrong", [[], "a {}", ["a photo"], ["{} {}"], ["{name}"], ["{} {0}"], ["{"], [3]])
def test_wrong_templates_are_refused(wrong):
    with pytest.raises(ValueError, match="template"):
        check_templates(wrong)
