import itertools
from math import isqrt

import pytest
import torch
from torch.nn import functional as F

from possam.layers import point_sample
from possam.losses import HungarianMatcher, LayerOutput, Target
from possam.losses.mask_losses import dice, sigmoid_bce
from possam.losses.matcher import pairwise_bce, pairwise_dice, sample_masks


def blocks(count, size=32):
    """Disjoint vertical stripes."""
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for index in range(count):
        masks[index, :, index * size // count : (index + 1) * size // count] = True
    return masks


def logits_of(masks, size=8, scale=10.0):
    return (F.interpolate(masks[None].float(), size=(size, size), mode="area")[0] - 0.5) * scale


def match(matcher, output, targets):
    """Of one layer, (queries, segments) of every image."""
    matches = matcher([output], targets, features_of(output), torch.rand(len(targets), matcher.points, 2))
    return [(queries[0], segments[0]) for queries, segments in matches]


def cost_of(matcher, output, target, mask_features, points):
    """Q×T costs of one image."""
    sampled = point_sample(mask_features, points)
    return matcher._cost(output, target.labels[None], sample_masks(target.masks, points[0])[None], sampled)[0]


def make_layer(class_logits, mask_logits, iou):
    """Whose mask embeddings, times `features_of` it, are these mask logits."""
    return LayerOutput(class_logits, mask_logits.flatten(2), iou)


def features_of(layer):
    """One channel a pixel of square masks."""
    batch, _, pixels = layer.mask_embeddings.shape
    return torch.eye(pixels).unflatten(1, (isqrt(pixels), -1)).repeat(batch, 1, 1, 1)


def make_output(batch, queries, classes, size=8):
    return make_layer(
        torch.randn(batch, queries, classes + 1),
        torch.randn(batch, queries, size, size) * 3,
        torch.rand(batch, queries),
    )


def test_pairwise_costs_equal_the_losses_pair_by_pair():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 50) * 5, torch.rand(3, 50)
    for q in range(4):
        for t in range(3):
            pair = logits[q : q + 1], labels[t : t + 1]
            torch.testing.assert_close(pairwise_bce(logits, labels)[q, t], sigmoid_bce(*pair)[0])
            torch.testing.assert_close(pairwise_dice(logits, labels)[q, t], dice(*pair)[0])


def test_recovers_a_permutation_from_masks_alone():
    masks = blocks(4)
    order = torch.tensor([2, 0, 3, 1])
    output = make_layer(torch.zeros(1, 4, 6), logits_of(masks[order])[None], torch.zeros(1, 4))
    target = Target(torch.zeros(4, dtype=torch.int64), masks)
    ((queries, segments),) = match(HungarianMatcher(points=256), output, [target])
    assert segments.tolist() == [0, 1, 2, 3]
    assert order[queries].tolist() == [0, 1, 2, 3]


def test_recovers_a_permutation_from_classes_alone():
    labels = torch.tensor([3, 1, 0])
    class_logits = torch.zeros(1, 5, 5)
    for query, label in ((4, 3), (0, 1), (2, 0)):
        class_logits[0, query, label] = 5.0
    masks = blocks(1).expand(3, -1, -1)
    output = make_layer(class_logits, torch.zeros(1, 5, 8, 8), torch.zeros(1, 5))
    ((queries, segments),) = match(HungarianMatcher(points=64), output, [Target(labels, masks)])
    assert (queries.tolist(), segments.tolist()) == ([4, 0, 2], [0, 1, 2])


@pytest.mark.parametrize(("queries", "segments"), [(5, 3), (4, 4), (3, 5)])
def test_total_cost_is_the_least_of_all_assignments(queries, segments):
    torch.manual_seed(queries)
    matcher = HungarianMatcher(points=100)
    output = make_output(1, queries, 4)
    target = Target(torch.randint(0, 4, (segments,)), torch.rand(segments, 32, 32) > 0.5)
    points = torch.rand(1, 100, 2)
    cost = cost_of(matcher, output, target, features_of(output), points)
    rows, columns = (part[0] for part in matcher([output], [target], features_of(output), points)[0])
    assert len(rows) == min(queries, segments) and columns.tolist() == sorted(columns.tolist())
    small, large = sorted((queries, segments))
    table = cost if queries <= segments else cost.T
    best = min(
        sum(table[row, column].item() for row, column in enumerate(chosen))
        for chosen in itertools.permutations(range(large), small)
    )
    assert cost[rows, columns].sum().item() == pytest.approx(best, abs=1e-4)


def test_cost_is_the_weighted_sum_of_the_method():
    """METHOD.md 1.8 written out on a mask that is the same at all points, so that points do not matter."""
    torch.manual_seed(0)
    class_logits, features = torch.randn(1, 2, 4), torch.ones(1, 1, 128, 128)
    target = Target(torch.tensor([2]), torch.ones(1, 256, 256, dtype=torch.bool))
    matcher = HungarianMatcher(class_weight=2, mask_weight=5, dice_weight=7, points=4000)
    layer = LayerOutput(class_logits, torch.full((1, 2, 1), 1.5), torch.zeros(1, 2))
    cost = cost_of(matcher, layer, target, features, torch.rand(1, 4000, 2))
    p = torch.tensor(1.5).sigmoid().item()
    bce = -torch.tensor(p).log().item()
    dice_loss = 1 - (2 * p * 4000 + 1) / (p * 4000 + 4000 + 1)
    expected = -2 * class_logits[0].softmax(-1)[:, 2] + 5 * bce + 7 * dice_loss
    # samples fade at the very border of the map
    torch.testing.assert_close(cost[:, 0], expected, atol=0.06, rtol=0)


def test_images_without_segments_match_nothing():
    output = make_output(3, 4, 5)
    empty = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 32, 32, dtype=torch.bool))
    full = Target(torch.tensor([1, 2]), blocks(2))
    matches = match(HungarianMatcher(points=64), output, [empty, full, empty])
    assert [len(queries) for queries, _ in matches] == [0, 2, 0]
    assert all(queries.dtype == segments.dtype == torch.int64 for queries, segments in matches)
    assert [len(queries) for queries, _ in match(HungarianMatcher(points=64), output, [empty] * 3)] == [0, 0, 0]


def test_layers_and_images_are_matched_each_on_its_own():
    """Together, with images of different numbers of segments, as one at a time."""
    torch.manual_seed(0)
    layers = [make_output(3, 5, 4) for _ in range(2)]
    targets = [Target(torch.randint(0, 4, (n,)), torch.rand(n, 32, 32) > 0.5) for n in (2, 0, 7)]
    matcher, points = HungarianMatcher(points=50), torch.rand(3, 50, 2)
    together = matcher(layers, targets, features_of(layers[0]), points)
    assert [match.queries.shape for match in together] == [(2, 2), (2, 0), (2, 5)]
    for number, layer in enumerate(layers):
        for image, target in enumerate(targets):
            one = LayerOutput(*(x[image : image + 1] for x in layer))
            (alone,) = matcher([one], [target], features_of(one), points[image : image + 1])
            assert torch.equal(alone.queries[0], together[image].queries[number])
            assert torch.equal(alone.segments[0], together[image].segments[number])


def test_masks_are_sampled_in_parts():
    torch.manual_seed(0)
    masks, points = torch.rand(37, 8, 8) > 0.5, torch.rand(20, 2)
    expected = point_sample(masks[None].float(), points[None])[0]
    torch.testing.assert_close(sample_masks(masks, points), expected, atol=0, rtol=0)
    assert sample_masks(masks[:0], points).shape == (0, 20)


@pytest.mark.parametrize("part", ["class logits", "mask embeddings"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_costs_that_are_not_finite_are_named(part, value):
    output = make_output(1, 3, 4)
    getattr(output, part.replace(" ", "_"))[0, 1] = value
    with pytest.raises(FloatingPointError, match=f"layer 0 are not finite: .* in the {part}; lower the learning rate"):
        match(HungarianMatcher(points=64), output, [Target(torch.tensor([1]), blocks(1))])


def test_mask_features_that_are_not_finite_and_products_that_overflow_are_named():
    output, target = make_output(1, 3, 4), Target(torch.tensor([1]), blocks(1))
    matcher, points = HungarianMatcher(points=64), torch.rand(1, 64, 2)
    with pytest.raises(FloatingPointError, match="not finite: NaN or infinity in the mask features;"):
        matcher([output], [target], features_of(output).fill_(torch.nan), points)
    with pytest.raises(FloatingPointError, match="not finite: the values are too large;"):
        matcher([output], [target], features_of(output).fill_(3e38), points)


def test_half_precision_logits():
    masks = blocks(3)
    output = make_layer(
        torch.zeros(1, 3, 6, dtype=torch.bfloat16),
        logits_of(masks.flip(0))[None].bfloat16(),
        torch.zeros(1, 3),
    )
    target = Target(torch.zeros(3, dtype=torch.int64), masks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ((queries, _),) = match(HungarianMatcher(points=128), output, [target])
    assert queries.tolist() == [2, 1, 0]


def test_wrong_settings():
    with pytest.raises(ValueError, match="mask -1"):
        HungarianMatcher(mask_weight=-1)
    with pytest.raises(ValueError, match="nor all zero"):
        HungarianMatcher(class_weight=0, mask_weight=0, dice_weight=0)
    with pytest.raises(ValueError, match="points=0"):
        HungarianMatcher(points=0)
