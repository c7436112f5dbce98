"""Colors of the page's charts, in both themes."""

import re

import pytest

from possam.report.style import STYLE
from possam.visualize.color_difference import seen_with, smallest_difference
from possam.visualize.colors import contrast

# Colors that stand beside each other: segments by what became of them, bars of seen and unseen classes, points and
# means of the calibration.
BESIDE = [("right", "misnamed"), ("right", "missed"), ("misnamed", "missed"), ("mark", "unseen"), ("mark", "misnamed")]
ON_PAPER = {"mark": 3, "right": 3, "misnamed": 3, "unseen": 4.5, "faint": 4.5, "ink": 7}  # WCAG 2.2: 3 for graphics


@pytest.fixture(params=["light", "dark"])
def colors(request):
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    declared = re.findall(r"--(\w+): #(\w{6});", light if request.param == "light" else dark)
    assert len(declared) == 10 == len(dict(declared))
    return {name: tuple(bytes.fromhex(value)) for name, value in declared}


def test_charts_can_be_read_with_color_vision_deficiencies(colors):
    """ΔE (CIEDE2000) of at least 25 to normal vision and of 17 with each deficiency."""
    seen = {name: seen_with(color) for name, color in colors.items()}
    least = {pair: float(smallest_difference(seen[pair[0]], seen[pair[1]])) for pair in BESIDE}
    assert min(least.values()) >= 25, least


def test_contrast_with_the_paper(colors):
    found = {name: contrast(colors[name], colors["paper"]) for name in ON_PAPER}
    assert all(found[name] >= least for name, least in ON_PAPER.items()), found
