import numpy as np
import pytest
import torch
from torchmetrics.detection import PanopticQuality

from possam.data.id_maps import check_values, runs
from possam.evaluation.panoptic_quality import PanopticCounts, count_segments
from tests.reference import panoptic_quality as reference


def slow_counts(truth, truth_classes, truth_crowd, prediction, prediction_classes):
    """The definition, a pair of masks at a time. Gives {class: [iou, tp, fp, fn]}."""
    result = {int(c): [0.0, 0, 0, 0] for c in [*truth_classes, *prediction_classes]}
    void = truth == 0
    matched_truth, matched_prediction = set(), set()
    for j, predicted_class in enumerate(prediction_classes):
        mask = prediction == j + 1
        for g, truth_class in enumerate(truth_classes):
            other = truth == g + 1
            if truth_crowd[g] or truth_class != predicted_class:
                continue
            iou = (mask & other).sum() / ((mask & ~void) | other).sum()
            if iou > 0.5:
                result[truth_class][0] += iou
                result[truth_class][1] += 1
                matched_truth.add(g)
                matched_prediction.add(j)
    for g, truth_class in enumerate(truth_classes):
        result[truth_class][3] += int(g not in matched_truth and not truth_crowd[g])
    for j, predicted_class in enumerate(prediction_classes):
        crowds = [g for g, c in enumerate(truth_classes) if truth_crowd[g] and c == predicted_class]
        mask = prediction == j + 1
        ignored = void | (truth == crowds[-1] + 1) if crowds else void
        half = (mask & ignored).sum() / mask.sum() > 0.5
        result[predicted_class][2] += int(j not in matched_prediction and not half)
    return result


def case(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 6, (9, 11)).repeat(3, 0).repeat(2, 1)
    prediction = np.where(rng.random(truth.shape) < 0.25, rng.integers(0, 6, truth.shape), truth)
    prediction = np.unique(prediction, return_inverse=True)[1].reshape(truth.shape)
    if prediction.min() > 0 or rng.random() < 0.5:
        prediction = np.maximum(prediction, 1)
    num_truth, num_predicted = 5, int(prediction.max())
    return {
        "truth": truth,
        "truth_classes": rng.integers(0, 3, num_truth),
        "truth_crowd": rng.random(num_truth) < 0.4,
        "prediction": prediction,
        "prediction_classes": rng.integers(0, 3, num_predicted),
    }


@pytest.mark.parametrize("seed", range(30))
def test_counts_are_the_definition(seed):
    arguments = case(seed)
    unsaid = np.full(len(arguments["truth_classes"]), -1)
    counts = PanopticCounts.total([count_segments(**arguments, truth_areas=unsaid)], 3)
    expected = slow_counts(**{k: v if v.ndim == 2 else v.tolist() for k, v in arguments.items()})
    for k in range(3):
        iou, tp, fp, fn = expected.get(k, (0.0, 0, 0, 0))
        assert counts.iou[k] == pytest.approx(iou, abs=1e-12)
        assert (counts.tp[k], counts.fp[k], counts.fn[k]) == (tp, fp, fn)


@pytest.mark.parametrize("seed", range(10))
def test_counts_equal_those_of_torchmetrics(seed):
    """Without crowds, which it does not know, and without void in predictions, which it does not count as wrong."""
    arguments = {**case(seed), "truth_crowd": np.zeros(5, dtype=bool)}
    arguments["prediction"] = np.maximum(arguments["prediction"], 1)
    maps = [
        np.stack([np.append(3, arguments[f"{side}_classes"])[arguments[side]], arguments[side]], axis=-1)
        for side in ("prediction", "truth")
    ]
    metric = PanopticQuality(things={0, 1, 2}, stuffs=set(), allow_unknown_preds_category=True)
    metric.update(*(torch.from_numpy(ids)[None] for ids in maps))
    counts = PanopticCounts.total([count_segments(**arguments, truth_areas=np.full(5, -1))], 3)
    assert counts.tp.sum() + counts.fp.sum() > 0
    np.testing.assert_array_equal(counts.tp, metric.true_positives)
    np.testing.assert_array_equal(counts.fp, metric.false_positives)
    np.testing.assert_array_equal(counts.fn, metric.false_negatives)
    np.testing.assert_allclose(counts.iou, metric.iou_sum, rtol=0, atol=1e-6)  # it divides in float32


@pytest.mark.parametrize("size", [(240, 320), (1, 1), (1, 400), (400, 1)])
@pytest.mark.parametrize("type_", [np.uint8, np.int32, np.int64])
def test_counting_runs_is_counting_pixels(size, type_):
    """Large maps of blobs, ids of three bytes, crowds, void: the same numbers, to the bit but for the sum of IoU."""
    rng = np.random.default_rng(size[0])
    truth, other = (rng.integers(0, 13, (-(-size[0] // 40), -(-size[1] // 40))) for _ in range(2))
    grow = np.ones((40, 40), dtype=np.int64)
    truth, other = (np.kron(index, grow)[: size[0], : size[1]] for index in (truth, other))
    prediction = np.where(rng.random(size) < 0.02, other, np.roll(truth, 7, axis=1))
    prediction[:, : size[1] // 3] = other[:, : size[1] // 3]
    largest = 255 if type_ is np.uint8 else 256**3 - 1
    sides, infos = [], []
    for index in (truth, prediction):
        ids = rng.permutation(np.arange(largest - 12, largest + 1))
        table = np.concatenate([[0], ids[1:]])
        sides.append(table[index].astype(type_))
        present = [i for i in np.unique(index).tolist() if i]
        infos.append(
            [
                {"id": int(table[i]), "category_id": i % 4, "iscrowd": int(i % 5 == 0), "area": int((index == i).sum())}
                for i in present
            ]
        )
    starts, pixels = runs(*sides)
    assert pixels.sum() == truth.size and len(pixels) == len(starts)
    places = [
        check_values(side.take(starts), [s["id"] for s in info], source="x")
        for side, info in zip(sides, infos, strict=True)
    ]
    rows = count_segments(
        truth=places[0],
        truth_classes=np.array([s["category_id"] for s in infos[0]], dtype=np.int64),
        truth_crowd=np.array([s["iscrowd"] for s in infos[0]], dtype=bool),
        truth_areas=np.array([s["area"] for s in infos[0]], dtype=np.int64),
        prediction=places[1],
        prediction_classes=np.array([s["category_id"] for s in infos[1]], dtype=np.int64),
        pixels=pixels,
    )
    counts = PanopticCounts.total([rows], 4)
    expected = reference.count_image(sides[0], infos[0], sides[1], infos[1])
    for k in range(4):
        iou, *numbers = expected.get(k, (0.0, 0, 0, 0))
        assert [counts.tp[k], counts.fp[k], counts.fn[k]] == numbers
        assert counts.iou[k] == pytest.approx(iou, abs=1e-14)
    if truth.size > 400:
        assert counts.tp.sum() > 2 and counts.fp.sum() > 0 and counts.fn.sum() > 0


@pytest.mark.parametrize("largest", [9, 2**24 - 1, 2**31 - 1])
@pytest.mark.parametrize("seed", [0, 1, "empty", "one pixel"])
def test_ids_count_alike_whatever_their_size(seed, largest):
    arguments = case(0 if isinstance(seed, str) else seed)
    if seed == "empty":
        arguments |= {"prediction": np.zeros((27, 22), np.int64), "prediction_classes": np.zeros(0, np.int64)}
    if seed == "one pixel":
        arguments |= {"truth": np.array([[2]]), "prediction": np.array([[1]]), "prediction_classes": np.array([0])}
    arguments["truth_areas"] = np.full(5, -1)
    expected = count_segments(**arguments)
    ids = np.arange(largest, largest - 9, -1)
    sides = [np.concatenate([[0], ids])[arguments[side]].astype(np.int32) for side in ("truth", "prediction")]
    starts, pixels = runs(*sides)
    for name, side in zip(("truth", "prediction"), sides, strict=True):
        listed = ids[: len(arguments[f"{name}_classes"])].tolist()
        arguments[name] = check_values(side.take(starts), listed, source=name, hidden=listed)
    np.testing.assert_array_equal(count_segments(**arguments, pixels=pixels), expected)


def segments(truth, prediction, *, crowd=False, classes=(0, 0), area=-1):
    rows = count_segments(
        truth=np.array([truth]),
        truth_classes=np.array([classes[0]]),
        truth_crowd=np.array([crowd]),
        truth_areas=np.array([area]),
        prediction=np.array([prediction]),
        prediction_classes=np.array([classes[1]]),
    )
    counts = PanopticCounts.total([rows], 2)
    return counts.iou.tolist(), counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist()


def test_rules_one_by_one():
    one = 1, 1, 1, 1
    assert segments([*one], [*one]) == ([1.0, 0], [1, 0], [0, 0], [0, 0])
    # An IoU of exactly one half is no match.
    assert segments([1, 1, 1, 1], [1, 1, 0, 0]) == ([0, 0], [0, 0], [1, 0], [1, 0])
    # Void under the prediction leaves the union: IoU 2/2.
    assert segments([1, 1, 0, 0], [1, 1, 1, 1]) == ([1.0, 0], [1, 0], [0, 0], [0, 0])
    # The annotation says that the segment goes on under another: IoU 3/5.
    assert segments([1, 1, 1, 0], [1, 1, 1, 0], area=5) == ([0.6, 0], [1, 0], [0, 0], [0, 0])
    # No annotated segment is smaller than its pixels, whatever its annotation says.
    assert segments([1, 1, 1, 1], [1, 1, 1, 1], area=0) == ([1.0, 0], [1, 0], [0, 0], [0, 0])
    # Another class: a miss and a false positive.
    assert segments([*one], [*one], classes=(0, 1)) == ([0, 0], [0, 0], [0, 1], [1, 0])
    # Mostly void is no false positive; exactly half is one.
    assert segments([0, 0, 0, 1], [1, 1, 1, 1], classes=(0, 1))[2] == [0, 0]
    assert segments([0, 0, 1, 1], [1, 1, 1, 1], classes=(0, 1))[2] == [0, 1]
    # On a crowd: ignored for its class, a false positive for another; the crowd is no miss.
    assert segments([*one], [*one], crowd=True) == ([0, 0], [0, 0], [0, 0], [0, 0])
    assert segments([*one], [*one], crowd=True, classes=(0, 1)) == ([0, 0], [0, 0], [0, 1], [0, 0])


def test_averages_leave_out_absent_classes():
    counts = PanopticCounts(
        iou=np.array([1.6, 0.0, 0.0]), tp=np.array([2, 0, 0]), fp=np.array([1, 3, 0]), fn=np.array([1, 0, 0])
    )
    groups = {
        "": np.array([True] * 3),
        "_a": np.array([True, False, True]),
        "_b": np.array([False, False, True]),
    }
    summary = counts.summary(groups)
    assert summary["PQ_a"] == pytest.approx(100 * 1.6 / 3)
    assert summary["SQ_a"] == pytest.approx(80)
    assert summary["RQ_a"] == pytest.approx(100 * 2 / 3)
    assert summary["PQ"] == pytest.approx(100 * 1.6 / 3 / 2)  # a class that is only predicted counts 0
    assert np.isnan([summary["PQ_b"], summary["SQ_b"], summary["RQ_b"]]).all()
    rows = counts.table(["x", "y", "z"])
    assert (rows[1]["name"], rows[1]["PQ"], rows[1]["SQ"], rows[1]["FP"]) == ("y", 0.0, 0.0, 3)
    assert np.isnan(rows[2]["PQ"]) and np.isnan(rows[2]["SQ"])
