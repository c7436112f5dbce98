"""Losses of image labels against their formulas (METHOD.md 2.9), written out."""

import math

import pytest
import torch

from possam.losses import ImageLabelCriterion, LabeledImage
from possam.losses import image_labels as module
from possam.losses.image_labels import keep_valid, match_loss, sum_loss

CPU = torch.device("cpu")


def image(seed, queries=5, classes=7, labels=(1, 4)):
    torch.manual_seed(seed)
    return LabeledImage(
        class_logits=(3 * torch.randn(queries, classes)).requires_grad_(),
        mask_embeddings=torch.randn(queries, 3, requires_grad=True),
        mask_features=torch.randn(3, 4, 6, requires_grad=True),
        iou=torch.rand(queries),
        labels=torch.tensor(labels),
        covered=torch.rand(4, 6),
    )


def expected(one, threshold=0.5):
    """L_match and L_sum in plain Python."""
    valid = [j for j, iou in enumerate(one.iou.tolist()) if iou >= threshold] or [int(one.iou.argmax())]
    match = 0.0
    for label in one.labels.tolist():
        rows = [one.class_logits[j].tolist() for j in valid]
        match -= math.log(max(math.exp(row[label]) / sum(map(math.exp, row)) for row in rows)) / len(one.labels)
    total = 0.0
    for y in range(4):
        for x in range(6):
            logits = one.mask_embeddings @ one.mask_features[:, y, x]
            total += float(one.covered[y, x]) * abs(1 - sum(1 / (1 + math.exp(-z)) for z in logits.tolist()))
    return match, total / float(one.covered.sum())


def test_formulas():
    for seed in range(4):
        one = image(seed)
        losses = ImageLabelCriterion()([one], 1.0, CPU)
        assert (losses["loss_match"].item(), losses["loss_sum"].item()) == pytest.approx(expected(one), rel=1e-5)


def test_the_best_prediction_is_kept_where_none_passes():
    assert keep_valid(torch.tensor([0.2, 0.5, 0.4]), 0.5).tolist() == [1]
    assert keep_valid(torch.tensor([0.2, 0.1, 0.4]), 0.5).tolist() == [2]
    assert keep_valid(torch.ones(3), 0.5).tolist() == [0, 1, 2]  # where nothing estimates the IoU


def test_losses_that_are_right_are_zero():
    logits = torch.full((2, 3), -50.0)
    logits[0, 2] = logits[1, 0] = 50.0
    assert match_loss(logits, torch.tensor([0, 2])) == 0
    masks = torch.full((2, 2, 2), -50.0)
    masks[0, 0] = masks[1, 1] = 50.0
    assert sum_loss(masks, torch.ones(2, 2)) == 0


def test_gradients_reach_the_best_prediction_of_each_label_and_all_masks():
    one = image(0)
    one = one._replace(iou=torch.tensor([0.9, 0.1, 0.6, 0.7, 0.2]))
    sum(ImageLabelCriterion()([one], 1.0, CPU).values()).backward()
    valid = [0, 2, 3]
    log_probability = one.class_logits.detach().log_softmax(-1)[valid]
    best = {valid[row] for row in log_probability[:, one.labels].argmax(0).tolist()}
    assert {row for row in range(5) if one.class_logits.grad[row].any()} == best
    assert one.mask_embeddings.grad.ne(0).all() and one.mask_features.grad.ne(0).all()


def test_weights_and_the_mean_over_images():
    images = [image(seed, classes=classes) for seed, classes in ((0, 7), (1, 5), (2, 9))]
    criterion = ImageLabelCriterion(match_weight=2.0, sum_weight=0.5)
    losses = criterion(images, criterion.average([None, 3, None, None], CPU), CPU)
    match, total = (sum(parts) / 3 for parts in zip(*map(expected, images), strict=True))
    assert losses["loss_match"].item() == pytest.approx(2 * match, rel=1e-5)
    assert losses["loss_sum"].item() == pytest.approx(total / 2, rel=1e-5)


def test_images_are_averaged_over_passes_and_processes(monkeypatch):
    criterion = ImageLabelCriterion()
    assert criterion.average([2, 0], CPU) == 0
    with criterion.accumulating([None, 1, 4, 0, None, None]):
        assert criterion.average([None, 1], CPU) == criterion.average([4, 0], CPU) == 1
    monkeypatch.setattr(module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(4))
    assert criterion.average([3, None], CPU) == 2.5


def test_settings_out_of_range():
    for wrong in ({"match_weight": -1}, {"sum_weight": -0.1}, {"iou_threshold": 1.5}):
        with pytest.raises(ValueError, match=r"at least 0 and an IoU threshold in \[0, 1\]"):
            ImageLabelCriterion(**wrong)
