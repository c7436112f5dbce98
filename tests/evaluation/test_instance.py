import numpy as np
import pytest
import torch

from possam.d2.structures import Instances
from possam.evaluation.instance import InstanceEvaluator

RECALLS = np.linspace(0, 1, 101)
THRESHOLDS = np.linspace(0.5, 0.95, 10)


def instances(masks, scores, classes, size=(40, 56)):
    result = Instances(size)
    result.pred_masks = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, *size))
    result.scores = torch.tensor(scores, dtype=torch.float32)
    result.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return {"instances": result}


def predicted(world):
    outputs = []
    for ids, infos in world.predictions.values():
        masks = [ids == info["id"] for info in infos]
        outputs.append(instances(masks, [i["score"] for i in infos], [i["category_id"] for i in infos]))
    return outputs


def evaluate(world, outputs, **keywords):
    evaluator = InstanceEvaluator(world.name, **keywords)
    evaluator.process(world.inputs(), outputs)
    return evaluator.evaluate()["segm"]


def slow_ap(world, category, threshold):
    """Average precision by COCO's rules: greedy by score, crowds absorb any number, 101 recalls."""
    rows, positives = [], 0
    for image_id, (ids, infos) in world.truths.items():
        truths = [(ids == i["id"], bool(i["iscrowd"])) for i in infos if i["category_id"] == category]
        truths.sort(key=lambda t: t[1])
        positives += sum(not crowd for _, crowd in truths)
        pixels, segments = world.predictions[image_id]
        guesses = [(s["score"], pixels == s["id"]) for s in segments if s["category_id"] == category]
        used = set()
        for score, mask in sorted(guesses, key=lambda g: -g[0]):
            best, chosen = threshold, None
            for g, (truth, crowd) in enumerate(truths):
                if g in used and not crowd:
                    continue
                if chosen is not None and not truths[chosen][1] and crowd:
                    break
                union = mask.sum() if crowd else (mask | truth).sum()
                iou = (mask & truth).sum() / union
                if iou >= best:
                    best, chosen = iou, g
            if chosen is not None:
                used.add(chosen)
            if chosen is None or not truths[chosen][1]:
                rows.append((score, chosen is not None))
    if not positives:
        return np.nan
    hits = np.array([hit for _, hit in sorted(rows, key=lambda r: -r[0])], dtype=float)
    recall, precision = hits.cumsum() / positives, hits.cumsum() / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS)
    return np.mean([precision[p] if p < len(precision) else 0.0 for p in places])


def test_equals_a_plain_average_precision(world):
    result = evaluate(world, predicted(world), train_vocabulary=world.train_vocabulary)
    table = np.array([[slow_ap(world, k, t) for t in THRESHOLDS] for k in (0, 2, 4)])  # 6 is never annotated
    assert np.isfinite(table).all() and 0 < table.mean() < 1
    assert result["AP"] == pytest.approx(100 * table.mean())
    assert result["AP50"] == pytest.approx(100 * table[:, 0].mean())
    assert result["AP75"] == pytest.approx(100 * table[:, 5].mean())
    assert result["AP_seen"] == pytest.approx(100 * table[0].mean())
    assert result["AP_unseen"] == pytest.approx(100 * table[1:].mean())
    assert np.isnan(result["APl"])  # nothing here is over 96² pixels


def test_truth_scores_100_and_stuff_is_ignored(world):
    outputs = []
    for ids, infos in world.truths.values():
        kept = [info for info in infos if not info["iscrowd"]]
        outputs.append(
            instances([ids == i["id"] for i in kept], [0.5] * len(kept), [i["category_id"] for i in kept])
        )
    result = evaluate(world, outputs)
    assert (result["AP"], result["AP50"], result["AP75"]) == pytest.approx((100, 100, 100))
    stuff = instances([np.ones((40, 56))], [1.0], [1])
    outputs[0]["instances"] = Instances.cat([outputs[0]["instances"], stuff["instances"]])
    assert evaluate(world, outputs) == pytest.approx(result, nan_ok=True)


def test_no_predictions_and_no_images(world):
    result = evaluate(world, [instances([], [], []) for _ in world.truths])
    assert result["AP"] == 0.0
    assert all(np.isnan(list(InstanceEvaluator(world.name).evaluate()["segm"].values())))


def test_errors(world):
    evaluator = InstanceEvaluator(world.name)
    with pytest.raises(ValueError, match="instances of image 101 have classes from 9 to 9"):
        evaluator.process(world.inputs()[:1], [instances([np.ones((40, 56))], [1.0], [9])])
    with pytest.raises(ValueError, match="pred_masks of image 101 has height×width 4×4"):
        evaluator.process(world.inputs()[:1], [instances([np.ones((4, 4))], [1.0], [0], size=(4, 4))])
