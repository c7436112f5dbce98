import re

import numpy as np
import pytest

from possam.report.charts import bar, calibration_chart, calibration_error, histogram, stacked


def test_bars():
    assert 'style="width:25.0%"' in bar(0.25)
    assert "width:100.0%" in bar(1.7) and "width:0.0%" in bar(-1)
    parts = stacked([("right", 0.5, "5 right"), ("missed", 0.0, "none"), ("misnamed", 0.5, "5 wrong")])
    assert parts.count("width:50.00%") == 2 and "none" not in parts


def test_calibration_error():
    ious = np.array([[0.05, 0.15], [0.06, 0.14], [0.95, 0.95], [0.97, 0.57]])
    # Tenths 0 and 9, two segments each: |0.055 − 0.145| and |0.96 − 0.76|.
    assert calibration_error(ious) == pytest.approx((2 * 0.09 + 2 * 0.2) / 4)
    assert calibration_error(np.array([[1.0, 1.0]])) == 0
    assert np.isnan(calibration_error(np.zeros((0, 2))))


def test_points_stand_at_their_ious():
    chart = calibration_chart(np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.25]]))
    points = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="2"', chart)
    (x0, y0), (x1, y1), (x, y) = [(float(a), float(b)) for a, b in points]
    assert x1 - x0 == y0 - y1 == 360
    assert (x - x0, y0 - y) == (180, 90)
    assert '<polyline points=""' in chart  # no tenth has enough segments for a mean


def test_many_points_are_thinned_but_all_count_for_the_line():
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, 1, 20_000)
    chart = calibration_chart(np.stack([predicted, predicted**2], axis=1))
    assert chart.count('class="dot"') == 4000
    means = re.findall(r"<title>(\d+) segments: predicted ([\d.]+), true ([\d.]+)", chart)
    assert len(means) == 10 and sum(int(count) for count, _, _ in means) == 20_000
    assert all(abs(float(true) - float(middle) ** 2) < 0.02 for _, middle, true in means)


def test_histogram():
    chart = histogram([0, 5, 100, 55], label="PQ")
    assert re.findall(r"<title>([^<]+)</title>", chart)[::5] == ["0 to 10: 2", "50 to 60: 1"]
    assert "90 to 100: 1" in chart
    assert "0 to 10: 0" in histogram([], label="PQ")
