import pytest
import torch

from possam.inference import MaskGrid, View, join_views, merge_semantic, stack_views


def squares(*corners, size=12, side=5):
    """A mask logit map of ±4 for each (top, left)."""
    masks = torch.full((len(corners), size, size), -4.0)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + side, left : left + side] = 4.0
    return masks


def view(corners, scores, iou=None):
    scores = torch.tensor(scores)
    best = scores.amax(dim=1)
    return View(scores, squares(*corners), torch.tensor(iou) if iou else best, 1 - best)


FIRST = view([(0, 0), (6, 6)], [[0.8, 0.1], [0.1, 0.6]])


def test_one_view_is_returned_as_it_is():
    assert join_views([FIRST]) is FIRST


def test_equal_views_in_another_order_of_masks_join_to_the_same_masks():
    swapped = View(*(part.flip(0) for part in FIRST))
    joined = join_views([FIRST, swapped, FIRST])
    torch.testing.assert_close(joined.scores, FIRST.scores)
    torch.testing.assert_close(joined.iou, FIRST.iou)
    torch.testing.assert_close(joined.mask_logits, FIRST.mask_logits, rtol=1e-4, atol=1e-4)


def test_members_are_averaged_in_probability_and_scores():
    other = view([(0, 1)], [[0.4, 0.3]])
    joined = join_views([view([(0, 0)], [[0.8, 0.1]]), other])
    torch.testing.assert_close(joined.scores, torch.tensor([[0.6, 0.2]]))
    expected = (squares((0, 0)).sigmoid() + squares((0, 1)).sigmoid()) / 2
    torch.testing.assert_close(joined.mask_logits.sigmoid(), expected, rtol=1e-4, atol=1e-5)


def test_a_mask_that_one_view_alone_shows_stays_with_a_share_of_its_score():
    joined = join_views([FIRST, view([(0, 7)], [[0.5, 0.0]])])
    assert len(joined.scores) == 3
    torch.testing.assert_close(joined.scores[2], torch.tensor([0.25, 0.0]))
    torch.testing.assert_close(joined.scores[0], FIRST.scores[0] / 2)
    torch.testing.assert_close(joined.iou, torch.tensor([0.8, 0.6, 0.5]))


def test_of_two_equal_masks_the_one_with_like_scores_is_the_mate():
    first = view([(0, 0), (0, 0)], [[0.9, 0.0], [0.05, 0.0]])
    second = view([(0, 0), (0, 0)], [[0.1, 0.0], [0.7, 0.0]])
    torch.testing.assert_close(join_views([first, second]).scores[:, 0], torch.tensor([0.8, 0.075]))


def test_a_third_view_is_compared_with_the_mean_of_the_others():
    joined = join_views([view([(0, 0)], [[0.9, 0.0]])] * 2 + [view([(0, 1)], [[0.3, 0.0]])])
    torch.testing.assert_close(joined.scores, torch.tensor([[0.7, 0.0]]))


def test_stacked_views_segment_as_the_mean_of_the_views_scores_does():
    torch.manual_seed(0)
    views = [View(torch.rand(q, 4), torch.randn(q, 8, 9), torch.rand(q), torch.rand(q)) for q in (5, 3)]
    stacked = stack_views(views)
    mean = sum(torch.einsum("qk,qhw->khw", v.scores, v.mask_logits.sigmoid()) for v in views) / 2
    assert torch.equal(merge_semantic(stacked.scores, MaskGrid(stacked.mask_logits)), mean.argmax(dim=0))


def test_no_view_and_views_of_different_grids_are_refused():
    with pytest.raises(ValueError, match="no view"):
        join_views([])
    with pytest.raises(ValueError, match="share classes and grid"):
        stack_views([FIRST, FIRST._replace(mask_logits=torch.zeros(2, 3, 3))])


def test_one_good_pair_wins_over_two_poor_ones():
    """A and a are the same segment; their halves would each find a mate if A and a gave theirs up."""
    whole, left, right = torch.full((3, 6, 20), -4.0)
    whole[:], left[:, :11], right[:, 9:] = 4.0, 4.0, 4.0
    rest = torch.ones(2), torch.zeros(2)  # IoU and void
    first = View(torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.6, 0.0]]), torch.stack([whole, left]), *rest)
    second = View(torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.0, 0.6]]), torch.stack([whole, right]), *rest)
    scores = join_views([first, second]).scores
    torch.testing.assert_close(scores, torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.3]]))
