"""Masks of prompts: their classes, the grid of points, stability and suppression, against brute force."""

import numpy as np
import pytest
import torch
from segment_anything.utils.amg import build_point_grid, calculate_stability_score

from possam.inference import MaskGrid, Postprocessor, boxes_of_masks
from possam.inference.prompted import collect_prompted, point_grid, stability_scores, suppress_masks


def grid(count=6, seed=0, **sizes):
    logits = torch.randn(count, 12, 16, generator=torch.Generator().manual_seed(seed)) * 2
    return MaskGrid(logits, padded_size=(48, 64), image_size=(44, 60), **sizes)


def test_every_prompt_has_its_mask_and_its_best_classes():
    masks = grid(output_size=(91, 120))
    scores = torch.rand(6, 9, generator=torch.Generator().manual_seed(1))
    iou = torch.linspace(0, 1, 6)
    found = Postprocessor()(scores, masks, iou, torch.zeros(6), isthing=[True] * 9, tasks=("prompted",))
    assert list(found) == ["prompted"]
    found = found["prompted"]
    assert torch.equal(found["masks"], masks.restore() > 0) and found["masks"].shape == (6, 91, 120)
    assert torch.equal(found["boxes"], boxes_of_masks(found["masks"])) and torch.equal(found["iou"], iou)
    assert torch.equal(found["classes"], scores.argsort(dim=1, descending=True)[:, :5])
    assert torch.equal(found["scores"], scores.gather(1, found["classes"]))
    assert torch.allclose(found["probabilities"], (scores / scores.sum(1, keepdim=True)).gather(1, found["classes"]))
    few = collect_prompted(torch.zeros(6, 2), masks, iou)
    assert few["classes"].shape == (6, 2) and few["probabilities"].eq(0).all()


def test_the_grid_is_that_of_segment_anything():
    expected = build_point_grid(5) * np.array([60, 44])
    assert np.allclose(point_grid(5, (44, 60)).numpy(), expected)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_stability_is_that_of_segment_anything(offset):
    masks = grid(output_size=(91, 120))
    expected = calculate_stability_score(masks.restore(), 0.0, offset)
    assert torch.allclose(stability_scores(masks, offset=offset), expected)
    assert (expected > 0).all() and (offset == 0 or (expected < 1).all())
    assert stability_scores(MaskGrid(torch.full((1, 4, 4), -9.0))).item() == 0


def test_suppression_by_masks_is_that_of_a_plain_loop():
    generator = torch.Generator().manual_seed(3)
    corners = torch.randint(0, 14, (40, 2), generator=generator)
    masks = torch.zeros(40, 20, 20, dtype=torch.bool)
    for mask, (x, y) in zip(masks, corners.tolist(), strict=True):
        mask[y : y + 6, x : x + 6] = True
        mask[y, x] = False
    masks[7] = False
    order = torch.randperm(40, generator=generator)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        kept = []
        for place in order.tolist():
            overlaps = ((masks[place] & masks[k]).sum() / (masks[place] | masks[k]).sum() for k in kept)
            if masks[place].any() and all(overlap <= threshold for overlap in overlaps):
                kept.append(place)
        assert suppress_masks(masks, order, threshold).tolist() == kept
    assert len(suppress_masks(masks, order, 0.3)) < 39 == len(suppress_masks(masks, order, 1.0))
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 1.5"):
        suppress_masks(masks, order, 1.5)


def test_masks_in_each_others_boxes_are_kept():
    masks = torch.zeros(2, 10, 10, dtype=torch.bool)
    masks[0, 0] = masks[0, :, 0] = True  # an angle, and what it embraces, with nearly the same box
    masks[1, 1:, 1:] = True
    assert suppress_masks(masks, torch.tensor([1, 0]), 0.1).tolist() == [1, 0]
