"""Losses of prompts against a plain computation, one prompt at a time."""

import pytest
import torch
from torch.nn import functional as F

from possam.losses import Assignment, PromptedCriterion, PromptedOutput, Target
from possam.losses.mask_losses import dice, sigmoid_bce


def output(prompts, masks=4, classes=3, seed=0, iou=True):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(prompts, masks, 8, 8, generator=generator)
    scores = torch.randn(prompts, classes + 1, generator=generator)
    quality = torch.rand(prompts, masks, generator=generator) if iou else None
    return PromptedOutput(*(x if x is None else x.requires_grad_() for x in (scores, logits, quality)))


def target(labels, seed=0):
    generator = torch.Generator().manual_seed(100 + seed)
    coarse = torch.rand(len(labels), 1, 4, 4, generator=generator)
    masks = F.interpolate(coarse, size=(32, 32), mode="bilinear")[:, 0] > 0.5
    return Target(torch.tensor(labels, dtype=torch.int64), masks)


def assignment(segments, ambiguous):
    return Assignment(torch.tensor(segments, dtype=torch.int64), torch.tensor(ambiguous, dtype=torch.bool))


def all_points():
    """Every candidate is taken, so that the choice of points is no part of the comparison."""
    return PromptedCriterion(points=400, oversample=1.0, importance=1.0)


def plain(criterion, outputs, targets, given, seed):
    """Sums over prompts, and how many prompts and labeled prompts there are."""
    sums, prompts, labeled = dict.fromkeys(("class", "mask", "dice", "iou"), 0.0), 0, 0
    for index, (out, truth, meant) in enumerate(zip(outputs, targets, given, strict=True)):
        generator = torch.Generator().manual_seed(seed + index)
        x, y = torch.rand(2, criterion.points, generator=generator)
        grid = torch.stack([2 * x - 1, 2 * y.sort().values - 1], dim=1)[None, None]
        for prompt, segment in enumerate(meant.segments.tolist()):
            prompts += 1
            if truth.labels[segment] >= 0:
                labeled += 1
                sums["class"] -= out.class_logits[prompt].log_softmax(0)[truth.labels[segment]]
            candidates = [1, 2, 3] if meant.ambiguous[prompt] and out.mask_logits.shape[1] > 1 else [0]
            actual = F.grid_sample(truth.masks[segment, None, None].float(), grid, align_corners=False)[0, 0, 0]
            costs, errors = [], []
            for mask in candidates:
                logits = out.mask_logits[prompt, mask]
                values = F.grid_sample(logits[None, None], grid, align_corners=False)[0, 0, 0]
                costs.append((sigmoid_bce(values, actual), dice(values, actual)))
                large = F.interpolate(logits[None, None], size=(32, 32), mode="bilinear")[0, 0] > 0
                union = (large | truth.masks[segment]).sum()
                if out.iou is not None:
                    iou = (large & truth.masks[segment]).sum() / union
                    errors.append((out.iou[prompt, mask] - iou) ** 2)
            least = min(costs, key=lambda pair: sum(pair).item())
            sums["mask"], sums["dice"] = sums["mask"] + least[0], sums["dice"] + least[1]
            sums["iou"] += sum(errors) / len(candidates)
    return sums, prompts, labeled


BATCH = (
    [output(3, seed=1), output(2, seed=2)],
    [target([0, 2], seed=1), target([-1, 1], seed=2)],
    [assignment([1, 0, 1], [True, False, True]), assignment([0, 1], [False, True])],
)


def test_equals_the_plain_computation():
    criterion = all_points()
    torch.manual_seed(5)
    losses = criterion(*BATCH)
    torch.manual_seed(5)
    sums, prompts, labeled = plain(criterion, *BATCH, int(torch.randint(2**62, ())))
    assert (prompts, labeled) == (5, 4)
    expected = {
        "loss_class": 2 * sums["class"] / 4, "loss_mask": 5 * sums["mask"] / 5,
        "loss_dice": 5 * sums["dice"] / 5, "loss_iou": 5 * sums["iou"] / 5,
    }  # fmt: skip
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(float(expected[name].detach()), rel=1e-4), name


def test_the_published_decoder_has_one_mask_and_no_iou():
    outputs = [output(2, masks=1, iou=False)]
    given = [assignment([0, 1], [True, False])]
    criterion = all_points()
    torch.manual_seed(5)
    losses = criterion(outputs, [target([0, 1])], given)
    torch.manual_seed(5)
    sums, *_ = plain(criterion, outputs, [target([0, 1])], given, int(torch.randint(2**62, ())))
    assert losses.keys() == {"loss_class", "loss_mask", "loss_dice"}
    assert losses["loss_mask"].item() == pytest.approx(5 * sums["mask"].item() / 2, rel=1e-4)


def test_parts_of_a_step_have_the_loss_of_the_whole():
    criterion = all_points()
    torch.manual_seed(5)
    whole = criterion(*BATCH)
    torch.manual_seed(5)
    with criterion.accumulating([3, 2], [3, 1]):
        parts = [criterion(*([each[index]] for each in BATCH)) for index in (0, 1)]
    for name, loss in whole.items():
        assert (parts[0][name] + parts[1][name]).item() / 2 == pytest.approx(loss.item(), rel=1e-5), name


def test_without_prompts_or_labels_losses_are_zero_and_connected():
    outputs = [output(0), output(2, seed=3)]
    given = [assignment([], []), assignment([0, 1], [False] * 2)]
    losses = all_points()(outputs, [target([]), target([-1, -1])], given)
    assert losses["loss_class"] == 0 and losses["loss_mask"] > 0
    nothing = all_points()([outputs[0]], [target([])], [assignment([], [])])
    assert all(loss == 0 for loss in nothing.values())
    sum(nothing.values()).backward()
    assert all(values.grad is not None for values in outputs[0])


def test_only_the_trained_mask_has_a_gradient():
    out = output(2, seed=4)
    losses = all_points()([out], [target([0, 1])], [assignment([0, 1], [False, True])])
    (losses["loss_mask"] + losses["loss_dice"]).backward()
    moved = out.mask_logits.grad.flatten(2).any(2)
    assert moved[0].tolist() == [True, False, False, False] and not moved[1, 0] and moved[1].sum() == 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected a segment below 2 for each of 1 prompts"):
        all_points()([output(1)], [target([0, 1])], [assignment([2], [False])])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\).* but got 0 to 3"):
        all_points()([output(2)], [target([0, 3])], [assignment([0, 1], [False] * 2)])
    with pytest.raises(ValueError, match="expected points"):
        PromptedCriterion(points=0)
