import numpy as np
import pytest
import torch

from possam.evaluation.semantic import SemanticEvaluator, semantic_metrics


def class_map(ids, infos):
    """−1 where there is no segment."""
    result = np.full(ids.shape, -1)
    for info in infos:
        result[ids == info["id"]] = info["category_id"]
    return result


def evaluate(world, maps, **keywords):
    evaluator = SemanticEvaluator(world.name, **keywords)
    evaluator.process(world.inputs(), [{"semantic_seg": torch.from_numpy(m)} for m in maps])
    return evaluator.evaluate()["sem_seg"]


def test_equals_the_definition(world):
    truths = np.stack([class_map(*truth) for truth in world.truths.values()])
    maps = np.stack([class_map(*prediction) for prediction in world.predictions.values()])
    result = evaluate(world, maps, train_vocabulary=world.train_vocabulary)
    known = truths >= 0
    iou, accuracy, frequency = {}, {}, {}
    for k in range(5):
        truth, predicted = truths == k, (maps == k) & known
        iou[k] = (truth & predicted).sum() / (truth | predicted).sum()
        accuracy[k] = (truth & predicted).sum() / truth.sum()
        frequency[k] = truth.sum() / known.sum()
    # Class 5 is predicted and never annotated; 6 and 7 are neither: all three are left out.
    assert (maps == 5).any() and set(np.unique(truths[known])) == set(range(5))
    expected = {
        "mIoU": np.mean(list(iou.values())),
        "fwIoU": sum(iou[k] * frequency[k] for k in range(5)),
        "mACC": np.mean(list(accuracy.values())),
        "pACC": (truths == maps)[known].mean(),
        "mIoU_seen": np.mean([iou[0], iou[3]]),
        "mIoU_unseen": np.mean([iou[1], iou[2], iou[4]]),
    }
    assert result == pytest.approx({name: 100 * value for name, value in expected.items()})
    assert 0 < result["mIoU"] < 100


def test_truth_scores_100(world):
    maps = [np.maximum(class_map(*truth), 0) for truth in world.truths.values()]
    assert set(evaluate(world, maps).values()) == {100.0}


def test_nan_policy():
    groups = {
        "": np.array([True] * 3),
        "_seen": np.array([True, False, False]),
        "_unseen": np.array([False, True, True]),
    }
    result = semantic_metrics(np.zeros((3, 4), np.int64), groups)
    assert np.isnan(list(result.values())).all()
    confusion = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    result = semantic_metrics(confusion, groups)
    assert (result["mIoU"], result["mIoU_seen"], result["pACC"]) == (75.0, 75.0, 75.0)
    assert np.isnan(result["mIoU_unseen"])


def test_counts_do_not_overflow():
    groups = {"": np.array([True, True])}
    confusion = np.array([[2**40, 0, 0], [2**40, 0, 0]])
    assert semantic_metrics(confusion, groups)["mIoU"] == 25.0


def test_errors(world):
    evaluator = SemanticEvaluator(world.name)
    for bad in (np.full((40, 56), 8), np.zeros((40, 56), np.float32)):
        with pytest.raises(ValueError, match="image 101 must hold integer classes below 8"):
            evaluator.process(world.inputs()[:1], [{"semantic_seg": torch.from_numpy(bad)}])
    with pytest.raises(ValueError, match="semantic_seg of image 101 has height×width 56×40"):
        evaluator.process(world.inputs()[:1], [{"semantic_seg": torch.zeros(56, 40, dtype=torch.int64)}])
