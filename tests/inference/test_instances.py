import pytest
import torch

from possam.inference import MaskGrid, merge_instances


def reference(scores, logits, isthing, top_k):
    """(score, class, mask) of every kept pair, by plain loops; the best first."""
    pairs = [(float(scores[q, k]), q, k) for q in range(len(scores)) for k in range(scores.shape[1])]
    kept = []
    for score, q, k in sorted(pairs, reverse=True)[:top_k]:
        inside = logits[q] > 0
        if isthing[k] and inside.any():
            kept.append((score * float(logits[q].sigmoid()[inside].mean()), k, inside))
    return sorted(kept, key=lambda entry: -entry[0])


@pytest.mark.parametrize(
    ("seed", "queries", "classes", "top_k"), [(0, 8, 5, 12), (1, 100, 30, 100), (2, 3, 2, 50)]
)
def test_instances_are_the_best_pairs_of_things(seed, queries, classes, top_k):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(queries, classes, generator=generator)
    logits = (
        torch.randn(queries, 9, 13, generator=generator) - torch.rand(queries, 1, 1, generator=generator) * 4
    )
    isthing = (torch.rand(classes, generator=generator) < 0.6).tolist()
    got = merge_instances(scores, MaskGrid(logits), isthing, top_k=top_k)
    expected = reference(scores, logits, isthing, top_k)
    assert 0 < len(got) == len(expected) <= top_k
    assert got.image_size == (9, 13)
    torch.testing.assert_close(got.scores, torch.tensor([score for score, _, _ in expected]))
    assert got.pred_classes.tolist() == [label for _, label, _ in expected]
    assert torch.equal(got.pred_masks, torch.stack([mask for _, _, mask in expected]))
    assert got.pred_masks.dtype == torch.bool and got.pred_classes.dtype == torch.int64
    for box, (_, _, mask) in zip(got.pred_boxes.tensor.tolist(), expected, strict=True):
        (y1, x1), (y2, x2) = mask.nonzero().amin(0).tolist(), mask.nonzero().amax(0).tolist()
        assert box == [x1, y1, x2 + 1, y2 + 1]


def test_stuff_pairs_take_places_before_they_are_left_out():
    scores = torch.tensor([[0.9, 0.5], [0.8, 0.1]])
    got = merge_instances(scores, MaskGrid(torch.ones(2, 3, 3)), [False, True], top_k=3)
    assert got.pred_classes.tolist() == [1]
    torch.testing.assert_close(got.scores, torch.tensor([0.5]) * torch.sigmoid(torch.tensor(1.0)))


@pytest.mark.parametrize("queries", [0, 4])
@pytest.mark.parametrize("isthing", [[False, False], [True, True]])
def test_nothing_to_find_gives_empty_fields_of_the_right_shape(queries, isthing):
    logits = torch.full((queries, 6, 5), 1.0 if isthing == [False, False] else -1.0)
    got = merge_instances(torch.rand(queries, 2), MaskGrid(logits), isthing)
    assert len(got) == 0
    assert got.pred_masks.shape == (0, 6, 5) and got.pred_masks.dtype == torch.bool
    assert got.pred_boxes.tensor.shape == (0, 4)
    assert got.scores.shape == got.pred_classes.shape == (0,)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        merge_instances(torch.zeros(1, 1), MaskGrid(torch.zeros(1, 2, 2)), [True], top_k=0)
    with pytest.raises(ValueError, match="each of the 1 classes"):
        merge_instances(torch.zeros(1, 1), MaskGrid(torch.zeros(1, 2, 2)), [True, True])
