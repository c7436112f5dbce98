import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from possam.evaluation.mask_quality import MaskQualityEvaluator, spearman, true_ious


@pytest.mark.parametrize("seed", range(8))
def test_true_ious_are_the_definition(seed):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 5, (6, 8)).repeat(2, 0)
    crowd = rng.random(4) < 0.3
    masks = rng.random((5, *index.shape)) < rng.uniform(0.1, 0.9, (5, 1, 1))
    masks[4] = False
    matched, best, known = true_ious(masks, index, crowd)
    kept = [g for g in range(4) if not crowd[g]]
    valid = np.isin(index, [g + 1 for g in kept])
    iou = np.zeros((5, len(kept)))
    for q, (column, g) in itertools.product(range(5), enumerate(kept)):
        truth = index == g + 1
        iou[q, column] = (masks[q] & truth).sum() / ((masks[q] & valid) | truth).sum()
    np.testing.assert_allclose(best, iou.max(1))
    assignments = itertools.permutations(range(5), len(kept))
    total = max(sum(iou[q, c] for c, q in enumerate(chosen)) for chosen in assignments)
    assert matched.sum() == pytest.approx(total)
    assert (matched > 0).sum() <= len(kept)
    assert known.all()


def test_void_and_crowd_are_removed():
    index = np.array([[0, 0, 1, 1, 2, 2]])
    masks = np.array(
        [[[1, 1, 1, 1, 0, 0]], [[1, 1, 0, 0, 0, 0]], [[0, 0, 0, 0, 1, 1]], [[0, 0, 0, 0, 0, 0]]], bool
    )
    matched, best, known = true_ious(masks, index, np.array([False, True]))
    assert matched.tolist() == best.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert known.tolist() == [True, False, False, True]  # an empty mask is known to be bad
    for nothing in true_ious(masks[:0], index, np.array([False, True])):
        assert nothing.shape == (0,)
    assert true_ious(masks, np.zeros_like(index), np.zeros(0, bool))[0].tolist() == [0.0] * 4


def test_a_duplicate_is_good_only_for_the_best_segment():
    index = np.array([[1, 1, 1, 1]])
    masks = np.array([[[1, 1, 1, 1]], [[1, 1, 1, 0]]], bool)
    matched, best, _ = true_ious(masks, index, np.array([False]))
    assert matched.tolist() == [1.0, 0.0] and best.tolist() == [1.0, 0.75]


def test_spearman_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 50).astype(float), rng.random(50).round(1)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert np.isnan(spearman(a, np.ones(50))) and np.isnan(spearman(a[:1], b[:1]))


def test_evaluator(world):
    rng = np.random.default_rng(0)
    evaluator = MaskQualityEvaluator(world.name)
    rows = []
    for sample, (image_id, (ids, infos)) in zip(world.inputs(), world.predictions.items(), strict=True):
        masks = np.array([ids == info["id"] for info in infos], bool).reshape(-1, *ids.shape)
        iou = rng.random(len(masks))
        quality = {"masks": torch.from_numpy(masks), "iou": torch.from_numpy(iou).float().requires_grad_()}
        chosen = [{"query": query} for query in range(0, len(masks), 2)]
        evaluator.process([sample], [{"mask_quality": quality, "panoptic_seg": (None, chosen)}])
        truth = evaluator.ground_truth
        matched, best, known = true_ious(masks, truth.index(image_id), truth.crowds(image_id))
        rows.append(np.stack([np.float32(iou), matched, best, np.arange(len(masks)) % 2 == 0], 1)[known])
    predicted, matched, best, segment = np.concatenate(rows).T
    result = evaluator.evaluate()["iou_head"]
    assert result["spearman_matched"] == pytest.approx(spearmanr(predicted, matched).statistic)
    assert result["spearman_best"] == pytest.approx(spearmanr(predicted, best).statistic)
    chosen = segment > 0
    assert 2 < chosen.sum() < len(chosen)
    assert result["spearman_segments"] == pytest.approx(spearmanr(predicted[chosen], best[chosen]).statistic)
    assert result["mae_matched"] == pytest.approx(np.abs(predicted - matched).mean())


def test_errors(world):
    evaluator = MaskQualityEvaluator(world.name)
    masks = torch.zeros(3, 40, 56, dtype=torch.bool)
    with pytest.raises(ValueError, match="image 101: 3 masks but 2 IoUs"):
        evaluator.process(world.inputs()[:1], [{"mask_quality": {"masks": masks, "iou": torch.zeros(2)}}])
