"""Intervals are compared with a loop over resamples that adds up images and computes PQ as an evaluation does."""

import numpy as np
import pytest

from possam.evaluation import Estimate, ImageCounts, bootstrap_results, difference, intervals
from possam.evaluation import bootstrap as module
from possam.evaluation.bootstrap import quality
from possam.evaluation.panoptic_quality import PanopticCounts

CLASSES = 6
SEEN = np.array([True, True, False, False, False, True])
GROUPS = {"": np.ones(CLASSES, dtype=bool), "_seen": SEEN, "_unseen": ~SEEN}
GROUPS["_none"] = np.arange(CLASSES) == 5  # has nothing to be counted


def image(rng, good=0.5):
    """Counts of one image: matches with probability `good`, else misses and false positives."""
    count = int(rng.integers(0, 7))
    rows = np.zeros((count, 5))
    rows[:, 0] = rng.integers(0, 5, count)
    kind = np.where(rng.random(count) < good, 2, rng.integers(3, 5, count))
    rows[np.arange(count), kind] = 1
    rows[kind == 2, 1] = rng.uniform(0.5, 1, int((kind == 2).sum()))
    return rows


def run(seed=0, images=40, good=0.5, ids=None, groups=GROUPS):
    rng = np.random.default_rng(seed)
    rows = [image(rng, good) for _ in range(images)]
    names = [f"class {k}" for k in range(CLASSES)]
    return ImageCounts.from_images(ids or range(images), rows, class_names=names, groups=groups), rows


def slow_quality(rows, weights):
    """PQ by metric of a sample, from the images one after the other."""
    drawn = [rows[i] for i, times in enumerate(weights) for _ in range(int(times))]
    summary = PanopticCounts.total(drawn, CLASSES).summary(GROUPS)
    return {metric: value for metric, value in summary.items() if metric.startswith("PQ")}


def test_quality_of_samples_is_that_of_their_images():
    counts, rows = run()
    weights = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=50).astype(float)
    weights = np.concatenate([weights, np.ones((1, 40)), 40 * np.eye(40)[:3]])
    found = quality(counts, weights)
    assert list(found) == ["PQ", "PQ_seen", "PQ_unseen", "PQ_none"] and np.isnan(found["PQ_none"]).all()
    for i, row in enumerate(weights):
        expected = slow_quality(rows, row)
        assert {metric: of[i] for metric, of in found.items()} == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_resamples_draw_as_many_images_as_there_are():
    weights = np.concatenate(list(module._weights(30, 1000, seed=3)))
    assert weights.shape == (1000, 30) and (weights.sum(axis=1) == 30).all()
    # Multinomial: mean 1, variance 1 − 1/30, covariance −1/30; four standard errors of 30,000 and of 1,000 numbers.
    assert weights.var() == pytest.approx(1 - 1 / 30, abs=0.04)
    assert np.cov(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(-1 / 30, abs=4 / np.sqrt(1000))
    assert len(np.unique(weights, axis=0)) > 990


def test_intervals_are_percentiles_of_the_resamples():
    counts, rows = run()
    found = intervals(counts, resamples=150, seed=5)
    weights = np.concatenate(list(module._weights(40, 150, seed=5)))
    slow = [slow_quality(rows, row) for row in weights]
    whole = slow_quality(rows, np.ones(40))
    for metric in ("PQ", "PQ_seen", "PQ_unseen"):
        low, high = np.percentile([each[metric] for each in slow], (2.5, 97.5))
        assert found[metric] == pytest.approx((whole[metric], low, high), abs=1e-9)
        assert low < whole[metric] < high
    assert np.isnan(found["PQ_none"]).all()
    assert intervals(counts, resamples=150, seed=5)["PQ"] == found["PQ"]
    assert intervals(counts, resamples=150, seed=6)["PQ"] != found["PQ"]


def test_intervals_cover():
    """Of 60 samples of 60 images, 95 % intervals miss the PQ of all images there are in few: P(more than 8) < 0.01."""
    rng = np.random.default_rng(0)
    every = [image(rng) for _ in range(20_000)]
    truth = slow_quality(every, np.ones(len(every)))["PQ"]
    missed = 0
    for seed in range(60):
        rows = [every[i] for i in np.random.default_rng(seed).integers(len(every), size=60)]
        names = [str(k) for k in range(CLASSES)]
        counts = ImageCounts.from_images(range(60), rows, class_names=names, groups={"": GROUPS[""]})
        _, low, high = intervals(counts, resamples=200)["PQ"]
        missed += not low <= truth <= high
    assert missed <= 8


def test_a_group_that_a_resample_lacks():
    """A class in one image of three: the interval is of the resamples that have it."""
    groups = {"": np.ones(2, dtype=bool), "_st": np.array([False, True])}
    rows = [np.array([[0, 1.0, 1, 0, 0]]), np.array([[0, 0, 0, 0, 1.0]]), np.array([[1, 0.8, 1, 0, 0]])]
    found = intervals(ImageCounts.from_images("abc", rows, class_names="xy", groups=groups))
    assert found["PQ_st"] == pytest.approx((80, 80, 80))
    assert found["PQ"].value == pytest.approx((100 / 1.5 + 80) / 2) and found["PQ"].low == 0


def test_differences_are_those_of_the_definition():
    """Three seeds on two sides: the loop draws images once for all six runs, and pairs of runs."""
    first, second = [run(seed, good=0.6) for seed in range(3)], [run(10 + seed) for seed in range(3)]
    found = difference([c for c, _ in first], [c for c, _ in second], resamples=100, seed=5)
    weights = np.concatenate(list(module._weights(40, 100, seed=5)))
    pairs = np.random.default_rng((5, 3)).integers(3, size=(3, 100))
    slow = [
        [
            slow_quality(first[s][1], weights[r])["PQ_unseen"] - slow_quality(second[s][1], weights[r])["PQ_unseen"]
            for s in pairs[:, r]
        ]
        for r in range(100)
    ]
    low, high = np.percentile(np.mean(slow, axis=1), (2.5, 97.5))
    means = [np.mean([slow_quality(rows, np.ones(40))["PQ_unseen"] for _, rows in side]) for side in (first, second)]
    assert found["PQ_unseen"] == pytest.approx((means[0] - means[1], low, high), abs=1e-9)


def test_a_difference_of_pairs_is_told_from_noise():
    """A run that finds one more segment in every tenth image is better, though the intervals of both overlap."""
    counts, rows = run(images=200)
    more = [np.concatenate([of, [[0, 1.0, 1, 0, 0]]]) if i % 10 == 0 else of for i, of in enumerate(rows)]
    better = ImageCounts.from_images(range(200), more, class_names=counts.class_names, groups=GROUPS)
    found = difference([better], [counts])["PQ"]
    assert found.low > 0 and not found.includes_zero
    assert intervals(better)["PQ"].low < intervals(counts)["PQ"].high
    assert difference([counts], [better])["PQ"] == pytest.approx((-found.value, -found.high, -found.low))


def test_differences_of_a_run_to_itself_are_zero():
    runs = [run(seed)[0] for seed in range(3)]
    for metric, found in difference(runs, runs).items():
        if metric != "PQ_none":
            assert found == (0, 0, 0) and found.includes_zero


def test_intervals_that_include_zero():
    assert not Estimate(2, 0.1, 4).includes_zero and not Estimate(-2, -4, -0.1).includes_zero
    assert Estimate(2, -0.1, 4).includes_zero and Estimate(0, 0, 0).includes_zero
    assert Estimate(2, float("nan"), float("nan")).includes_zero


def test_results_of_an_evaluation():
    ensembles = {"mase": run(0, good=0.5)[0], "ldp": run(1, good=0.8)[0], "clip": run(2, good=0.2)[0]}
    result = bootstrap_results(ensembles)
    assert (result["resamples"], result["level"], result["seed"]) == (1000, 0.95, 0)
    for name, counts in ensembles.items():
        assert result["intervals"][name]["PQ"] == pytest.approx(intervals(counts)["PQ"][1:])
    assert result["best"] == dict.fromkeys(("PQ", "PQ_seen", "PQ_unseen"), "ldp")
    assert result["differences"]["ldp"] == {} and set(result["differences"]["mase"]) == set(result["best"])
    expected = difference([ensembles["clip"]], [ensembles["ldp"]])
    assert result["differences"]["clip"]["PQ_seen"] == pytest.approx(list(expected["PQ_seen"]))
    alone = bootstrap_results({"mase": ensembles["mase"]})
    assert set(alone) == {"resamples", "level", "seed", "intervals"}
    assert alone["intervals"]["mase"]["PQ"] == result["intervals"]["mase"]["PQ"]


def test_an_ensemble_without_a_value_is_not_the_best():
    """No image has class 1, and only one ensemble predicts it: its PQ of the class is 0, the other's is NaN."""
    groups = {"": np.ones(2, dtype=bool), "_st": np.array([False, True])}
    rows = {"without": [[0, 0.8, 1, 0, 0]], "with": [[0, 0.8, 1, 0, 0], [1, 0, 0, 1, 0]]}
    ensembles = {
        name: ImageCounts.from_images("a", [np.array(of, dtype=float)], class_names="xy", groups=groups)
        for name, of in rows.items()
    }
    result = bootstrap_results(ensembles)
    assert result["best"] == {"PQ": "without", "PQ_st": "with"}
    assert result["differences"]["with"] == {"PQ": [-40.0] * 3}
    assert np.isnan(result["differences"]["without"]["PQ_st"]).all()


def test_what_cannot_be_compared():
    counts, _ = run()
    with pytest.raises(ValueError, match="the same seeds on both sides, one or more, but there are 1 and 2 runs"):
        difference([counts], [counts, counts])
    with pytest.raises(ValueError, match="there are 0 and 0 runs"):
        difference([], [])
    with pytest.raises(ValueError, match=r"counts are of other images \(only one of two has \[39, 40\]\); evaluate"):
        difference([counts], [run(ids=[*range(39), 40])[0]])
    with pytest.raises(ValueError, match="in another order of images"):
        intervals(counts, run(ids=range(39, -1, -1))[0])
    others = ImageCounts.from_images(range(40), [np.zeros((0, 5))] * 40, class_names="abcdef", groups=GROUPS)
    with pytest.raises(ValueError, match="of 6 and of 6 classes with other names; evaluate them on one dataset"):
        difference([counts], [others])
    with pytest.raises(ValueError, match="other classes are seen or unseen in one; compare"):
        bootstrap_results({"a": counts, "b": run(groups=GROUPS | {"_seen": ~SEEN})[0]})
    with pytest.raises(ValueError, match="counts of no image have no interval"):
        intervals(ImageCounts.from_images((), (), class_names="a", groups={}))
    with pytest.raises(ValueError, match="two resamples or more, but 1 were asked for"):
        intervals(counts, resamples=1)
