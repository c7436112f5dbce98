import pytest

from possam.report.markup import Markup, element, join


def test_text_is_escaped_and_markup_is_not():
    inner = element("b", '1 < 2 & "x"')
    assert inner == "<b>1 &lt; 2 &amp; &quot;x&quot;</b>"
    assert element("p", inner, "<i>", None, 3) == f"<p>{inner}&lt;i&gt;3</p>"
    assert join("<", Markup("<")) == "&lt;<"


def test_attributes():
    assert element("td", class_="a", data_sort="1", hidden=True, title=None, open=False) == (
        '<td class="a" data-sort="1" hidden></td>'
    )
    assert element("img", alt='"><script>') == '<img alt="&quot;&gt;&lt;script&gt;">'
    assert element("meta", name="viewport") == '<meta name="viewport">'
    assert element("circle", r=2) == '<circle r="2"/>'


def test_empty_elements_have_no_children():
    with pytest.raises(AssertionError, match="<img> has no children"):
        element("img", "text")
