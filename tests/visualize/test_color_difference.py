import cv2
import numpy as np
import pytest

from possam.visualize.color_difference import DEFICIENCIES, ciede2000, seen_with, smallest_difference, to_lab

# Of the table of Sharma, Wu and Dalal (2005): two Lab colors and their CIEDE2000.
SHARMA = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0009), 7.1792),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0011), 7.2195),
    ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (61.0, -5.0, 29.0), 22.8977),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ((90.8027, -2.0831, 1.441), (91.1528, -1.6435, 0.0447), 1.4441),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize("a, b, expected", SHARMA)
def test_ciede2000_is_that_of_the_published_table(a, b, expected):
    assert ciede2000(a, b) == pytest.approx(expected, abs=1e-4)
    assert ciede2000(b, a) == pytest.approx(expected, abs=1e-4)


def test_lab_is_that_of_opencv():
    colors = np.random.default_rng(0).integers(0, 256, (50, 3))
    expected = cv2.cvtColor((colors[None] / 255).astype(np.float32), cv2.COLOR_RGB2Lab)[0]
    assert np.abs(to_lab(colors) - expected).max() < 0.5
    assert to_lab((255, 255, 255)) == pytest.approx([100, 0, 0], abs=1e-3)


def test_a_deficiency_confuses_what_it_is_named_for():
    assert list(DEFICIENCIES) == ["protan", "deutan", "tritan"]
    for matrix in DEFICIENCIES.values():  # gray stays gray
        assert np.sum(matrix, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    red, green = seen_with((190, 80, 0)), seen_with((110, 120, 0))
    normal, protan, deutan, tritan = ciede2000(red, green)
    assert normal > 35 and deutan < 12 and tritan > 25 and protan < normal / 1.5
    blue, teal = seen_with((0, 110, 190)), seen_with((0, 125, 125))
    differences = ciede2000(blue, teal)
    assert differences[3] < min(differences[:3]) / 2
    assert smallest_difference(blue, teal) == pytest.approx(1.5 * differences[3])
    assert smallest_difference(blue, blue) == 0
