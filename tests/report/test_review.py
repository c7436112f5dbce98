import numpy as np
import pytest

from possam.report.cases import pick
from possam.report.review import ImageReview, confusions, fates, review_image


def columns(*widths):
    return np.repeat(np.arange(len(widths)), widths)[None].repeat(10, 0)


def review(truth, classes, prediction, names, *, crowd=(), iou=None, image_id=1, areas=None):
    segments = [{"category_id": k, "iscrowd": int(i in crowd)} for i, k in enumerate(classes)]
    for segment, area in zip(segments, areas or [], strict=False):
        segment["area"] = area
    return review_image(
        image_id,
        truth=truth,
        truth_segments=segments,
        prediction=prediction,
        predicted_classes=names,
        predicted_iou=iou or [None] * len(names),
        num_classes=5,
    )


def test_every_fate():
    truth = columns(0, 20, 20, 20, 20)
    prediction = columns(12, 8 + 20, 20, 20)
    prediction = np.concatenate([prediction, np.zeros((10, 0), int)], axis=1)
    result = review(truth, [0, 1, 2, 3], prediction, [1, 3, 3])
    assert [o.fate for o in result.outcomes] == ["missed", "right", "misnamed", "right"]
    assert [o.named for o in result.outcomes] == [None, 1, 3, 3]
    assert result.outcomes[1].iou == pytest.approx(20 / 28) and result.outcomes[2].iou == 1
    assert result.extra == ()
    # Classes 0 (missed) and 2 (missed) have 0; 1 has 20/28; 3 one match and one false positive.
    assert result.pq == pytest.approx(100 * (0 + 20 / 28 + 0 + 1 / 1.5) / 4)


def test_void_does_not_count_and_crowds_are_nobody():
    truth = columns(10, 20, 20)
    prediction = np.where(truth == 1, 1, np.where(truth == 2, 2, 1))
    result = review(truth, [0, 1], prediction, [0, 1], crowd=(1,), iou=[0.7, 0.9])
    assert [(o.segment, o.fate, o.iou) for o in result.outcomes] == [(0, "right", 1.0)]
    assert result.extra == ()  # it lies on a crowd of its class
    assert result.ious.tolist() == [[0.7, 1.0]]
    assert review(truth, [0, 1], prediction, [0, 4]).outcomes[1].fate == "misnamed"


def test_areas_of_the_annotation_decide():
    truth, prediction = columns(0, 20, 20), columns(0, 20, 20)
    half = review(truth, [0, 1], prediction, [0, 1], areas=[500, 200])
    assert [(o.fate, o.iou) for o in half.outcomes] == [("missed", 0), ("right", 1)]


def test_what_matches_nothing_is_extra():
    result = review(columns(0, 20, 20), [0, 1], columns(0, 5, 15, 20), [2, 0, 1], iou=[0.1, None, 0.8])
    assert result.extra == (2,)
    assert result.ious.tolist() == [[0.1, 0.25], [0.8, 1.0]]


def test_nothing_annotated_or_predicted():
    nothing = review(np.zeros((10, 10), int), [], np.zeros((10, 10), int), [])
    assert np.isnan(nothing.pq) and nothing.outcomes == () and nothing.ious.shape == (0, 2)
    missed = review(columns(0, 10), [3], np.zeros((10, 10), int), [])
    assert missed.pq == 0 and missed.outcomes[0].fate == "missed"


def test_confusions_are_counted_over_images():
    truth = columns(0, 20, 20)
    reviews = [
        review(truth, [0, 1], columns(0, 20, 20), [1, 1], image_id="a"),
        review(truth, [0, 1], columns(4, 16, 20), [1, 0], image_id="b"),
        review(truth, [0, 0], columns(0, 20, 20), [0, 1], image_id="c"),
    ]
    found = confusions(reviews, examples=2)
    assert [(c.category, c.named, c.count, c.of) for c in found] == [(0, 1, 3, 4), (1, 0, 1, 2)]
    assert found[0].examples == (("a", 0), ("c", 1))  # "b" has a lower IoU
    table = fates(reviews, 5)
    assert {fate: counts[:2].tolist() for fate, counts in table.items()} == {
        "right": [1, 1],
        "misnamed": [3, 1],
        "missed": [0, 0],
    }


def reviewed(image_id, quality):
    empty = np.zeros((0, 2))
    return ImageReview(image_id=image_id, counts=empty, pq=quality, outcomes=(), extra=(), ious=empty)


def test_best_and_worst():
    reviews = [reviewed(i, quality) for i, quality in enumerate((50, float("nan"), 10, 90, 30, 70))]
    best, worst = pick(reviews, 2)
    assert [r.image_id for r in best] == [3, 5] and [r.image_id for r in worst] == [2, 4]
    best, worst = pick(reviews, 10)
    assert [r.image_id for r in worst] == [2, 4] and [r.image_id for r in best] == [3, 5]
    assert [[r.image_id for r in part] for part in pick(reviews[:1], 3)] == [[], [0]]
    assert pick([], 3) == ([], [])


@pytest.mark.parametrize("kinds", [1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_the_review_counts_and_excuses_what_panoptic_quality_does(seed, kinds):
    """Random maps with void, crowds and areas that differ from the pixels; of one class, nothing is misnamed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 7, (6, 6))
    truth = coarse.repeat(4, 0).repeat(4, 1)
    truth[truth == 6] = 0
    kept = np.where(rng.random((6, 6)) < 0.7, coarse, rng.integers(0, 7, (6, 6))).repeat(4, 0).repeat(4, 1)
    present = [value for value in np.unique(kept) if value]
    prediction = np.searchsorted([0, *present], kept)
    classes = rng.integers(0, kinds, 5)
    names = [int(classes[v - 1]) if v < 6 and rng.random() < 0.6 else int(rng.integers(0, kinds)) for v in present]
    areas = [int((truth == i + 1).sum() * rng.choice([0.5, 1, 1.4])) for i in range(5)]
    crowd = set(np.flatnonzero(rng.random(5) < 0.4).tolist())
    result = review(truth, classes.tolist(), prediction, names, crowd=crowd, areas=areas)
    tp, fp, fn = (np.bincount(result.counts[result.counts[:, c] > 0, 0].astype(int), minlength=3) for c in (2, 3, 4))
    fate = fates([result], 3)
    assert fate["right"].tolist() == tp.tolist()
    assert (fate["missed"] + fate["misnamed"]).tolist() == fn.tolist()
    # A prediction that misnames a segment may be excused for void, which does not count towards its IoU.
    misnamed = np.bincount([o.named for o in result.outcomes if o.fate == "misnamed"], minlength=3)
    unmatched = fp - np.bincount(np.array(result.extra, dtype=int), minlength=3)
    assert (unmatched >= 0).all() and (unmatched <= misnamed).all()


def test_a_crowd_of_another_class_excuses_nothing():
    """The evaluator excuses for the last crowd of a prediction's own class alone, and counts the pixels where an
    annotation states fewer."""
    truth = columns(0, 20, 20, 20)
    on_crowds = review(truth, [0, 1, 1], truth, [0, 0, 1], crowd=(1, 2), iou=[0.9, 0.8, 0.7])
    assert on_crowds.extra == (0,) and on_crowds.counts[:, 3].sum() == 1
    assert on_crowds.ious.tolist() == [[0.9, 1.0], [0.8, 0.0]]
    assert review(truth, [0, 1, 1], truth, [0, 1, 1], crowd=(1, 2)).extra == (1,)  # on the first crowd of its class
    understated = review(columns(0, 20), [0], columns(0, 8, 12), [0, 0], areas=[10])
    assert [o.fate for o in understated.outcomes] == ["right"] and understated.outcomes[0].iou == 0.6
