import math

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from possam.losses import mask_losses
from possam.losses.mask_losses import dice, sigmoid_bce, thresholded_iou


def plain_dice(logits, labels):
    """Of one mask, a point at a time."""
    overlap = predicted = actual = 0.0
    for x, t in zip(logits.tolist(), labels.tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        overlap, predicted, actual = overlap + p * t, predicted + p, actual + t
    return 1 - (2 * overlap + 1) / (predicted + actual + 1)


def plain_bce(logits, labels):
    terms = []
    for x, t in zip(logits.tolist(), labels.tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        terms.append(-t * math.log(p) - (1 - t) * math.log(1 - p))
    return sum(terms) / len(terms)


def test_dice_and_bce_equal_their_formulas():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 30) * 3, torch.rand(4, 30)
    labels[1] = 0
    for index in range(4):
        assert dice(logits, labels)[index].item() == pytest.approx(plain_dice(logits[index], labels[index]), abs=1e-5)
        assert sigmoid_bce(logits, labels)[index].item() == pytest.approx(
            plain_bce(logits[index], labels[index]), abs=1e-5
        )


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    labels = torch.tensor([[0.0, 1.0, 1.0]])
    (dice(logits, labels) + sigmoid_bce(logits, labels)).sum().backward()
    assert logits.grad.isfinite().all()


def plain_iou(mask_logits, mask):
    predicted = F.interpolate(mask_logits[None, None], size=mask.shape, mode="bilinear")[0, 0] > 0
    overlap = union = 0
    for p, t in zip(predicted.flatten().tolist(), mask.flatten().tolist(), strict=True):
        overlap += bool(p and t)
        union += bool(p or t)
    return overlap / union if union else 0.0


@pytest.mark.parametrize("chunk", [1, 3 * 23 * 30, 2**24])
def test_iou_counts_pixels_at_full_size(monkeypatch, chunk):
    monkeypatch.setattr(mask_losses, "PIXELS_AT_ONCE", {"cpu": chunk})
    torch.manual_seed(0)
    mask_logits, masks = torch.randn(10, 6, 8), torch.rand(6, 23, 30) > 0.5
    segments = torch.tensor([3, 1, 2, 0, 4, 2, 1, 4, 4, 4])
    mask_logits[1], masks[2] = -1, False
    mask_logits[0], masks[3] = -1, False
    before = masks.clone()
    iou = thresholded_iou(mask_logits, masks, segments)
    assert iou.dtype == torch.float32 and torch.equal(masks, before)
    for index, segment in enumerate(segments.tolist()):
        assert iou[index].item() == pytest.approx(plain_iou(mask_logits[index], masks[segment]))
    assert (iou[[0, 1, 2, 5]] == 0).all() and (iou > 0).sum() == 6


def test_a_perfect_mask_reaches_one_and_has_no_gradient():
    mask_logits = torch.full((1, 8, 8), -1.0)
    mask_logits[0, 2:5, 3:7] = 1.0
    masks = F.interpolate(mask_logits[None], size=(32, 32), mode="bilinear")[0] > 0
    mask_logits.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        iou = thresholded_iou(mask_logits, masks, torch.zeros(1, dtype=torch.int64))
    assert iou.item() == 1 and not iou.requires_grad


class Waits(TorchFunctionMode):
    """Counts calls for which a GPU and the CPU wait for each other."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        waiting = (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.nonzero, torch.Tensor.tolist, torch.Tensor.item)
        self.count += func in waiting
        return func(*args, **(kwargs or {}))


def test_a_device_does_not_wait_once_a_segment():
    waits = []
    for segments in (3, 30):
        with Waits() as calls:
            thresholded_iou(torch.randn(60, 4, 4), torch.rand(30, 8, 8) > 0.5, torch.arange(60) % segments)
        waits.append(calls.count)
    assert waits[0] == waits[1]
