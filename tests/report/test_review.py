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
    result = review(truth, [0, 1], prediction, [0, 4], crowd=(1,), iou=[0.7, 0.9])
    assert [(o.segment, o.fate, o.iou) for o in result.outcomes] == [(0, "right", 1.0)]
    assert result.extra == ()  # it lies on a crowd
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
