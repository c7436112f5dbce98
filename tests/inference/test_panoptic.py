import math

import pytest
import torch

from possam.inference import MaskGrid, merge_panoptic


def random_case(seed, queries, classes, height, width):
    """Disks with noisy borders, so that masks overlap, hide each other and share classes."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    center = torch.rand(queries, 2, generator=generator) * torch.tensor([height, width])
    radius = torch.rand(queries, generator=generator) * min(height, width) * 0.4 + 1
    distance = ((y - center[:, 0, None, None]) ** 2 + (x - center[:, 1, None, None]) ** 2).sqrt()
    noise = torch.randn(queries, height, width, generator=generator)
    logits = (radius[:, None, None] - distance) + 0.7 * noise
    scores = torch.randn(queries, classes + 1, generator=generator).mul(3).softmax(dim=1)[:, :-1]
    isthing = (torch.rand(classes, generator=generator) < 0.5).tolist()
    return scores, logits, isthing


def reference(scores, logits, isthing, object_threshold, overlap_threshold):
    """The rules, pixel by pixel and in plain Python."""
    queries = [q for q in range(len(scores)) if float(scores[q].max()) > object_threshold]
    probability = {q: logits[q].sigmoid().tolist() for q in queries}
    best = {q: float(scores[q].max()) for q in queries}
    height, width = logits.shape[1:]
    won = {q: [] for q in queries}
    for y in range(height):
        for x in range(width):
            if queries:
                winner = max(queries, key=lambda q: best[q] * probability[q][y][x])
                won[winner].append((y, x))
    result, segments, stuff = torch.zeros(height, width, dtype=torch.int32), [], {}
    for q in queries:
        own = sum(value >= 0.5 for row in probability[q] for value in row)
        pixels = [(y, x) for y, x in won[q] if probability[q][y][x] >= 0.5]
        if not pixels or len(won[q]) / own < overlap_threshold:
            continue
        category = int(scores[q].argmax())
        if category in stuff:
            segment = stuff[category]
            segment["members"].append(q)
        else:
            segment = {"id": len(segments) + 1, "category_id": category, "members": [q]}
            segments.append(segment)
            if not isthing[category]:
                stuff[category] = segment
        for y, x in pixels:
            result[y, x] = segment["id"]
    return result, segments, best


@pytest.mark.parametrize(
    ("seed", "queries", "classes", "height", "width"),
    [(0, 6, 3, 20, 31), (1, 25, 4, 33, 24), (2, 25, 2, 24, 24), (3, 200, 20, 16, 16), (4, 1, 1, 9, 9)],
)
@pytest.mark.parametrize(("object_threshold", "overlap_threshold"), [(0.0, 0.8), (0.5, 0.8), (0.3, 0.2)])
def test_merging_follows_the_rules_pixel_by_pixel(
    seed, queries, classes, height, width, object_threshold, overlap_threshold
):
    scores, logits, isthing = random_case(seed, queries, classes, height, width)
    panoptic, segments = merge_panoptic(
        scores, MaskGrid(logits), isthing, object_threshold=object_threshold, overlap_threshold=overlap_threshold
    )
    expected, plain, best = reference(scores, logits, isthing, object_threshold, overlap_threshold)
    assert panoptic.dtype == torch.int32
    assert torch.equal(panoptic, expected)
    assert len(segments) == len(plain)
    for segment, other in zip(segments, plain, strict=True):
        assert (segment["id"], segment["category_id"]) == (other["id"], other["category_id"])
        assert segment["isthing"] is isthing[segment["category_id"]]
        leader = max(other["members"], key=best.__getitem__)
        assert segment["query"] == leader
        assert math.isclose(segment["score"], best[leader], rel_tol=1e-6)
        inside = (panoptic == segment["id"]).nonzero()
        assert segment["area"] == len(inside)
        (y1, x1), (y2, x2) = inside.amin(0).tolist(), inside.amax(0).tolist()
        assert segment["bbox"] == [x1, y1, x2 - x1 + 1, y2 - y1 + 1]


def test_random_cases_reach_every_rule():
    # Otherwise the comparison above would prove little.
    scores, logits, isthing = random_case(1, 25, 4, 33, 24)
    panoptic, segments = merge_panoptic(scores, MaskGrid(logits), isthing, object_threshold=0.3, overlap_threshold=0.2)
    passing = (scores.amax(1) > 0.3).sum()
    classes = [segment["category_id"] for segment in segments if not segment["isthing"]]
    assert len(classes) == len(set(classes)) > 0
    assert len(segments) < passing < 25
    assert (panoptic == 0).any() and any(segment["isthing"] for segment in segments)


def square(y1, x1, y2, x2, inside=9.0, size=(10, 10)):
    logits = torch.full(size, -9.0)
    logits[y1:y2, x1:x2] = inside
    return logits


def test_a_hidden_mask_vanishes_and_leaves_its_pixels_void():
    logits = torch.stack([square(0, 0, 10, 6), square(0, 3, 10, 8)])
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.5]])
    panoptic, segments = merge_panoptic(
        scores, MaskGrid(logits), [True, True], object_threshold=0.1, overlap_threshold=0.8
    )
    assert [segment["query"] for segment in segments] == [0]
    assert (panoptic[:, :6] == 1).all() and (panoptic[:, 6:] == 0).all()
    _, both = merge_panoptic(scores, MaskGrid(logits), [True, True], object_threshold=0.1, overlap_threshold=0.4)
    assert [segment["area"] for segment in both] == [60, 20]


def test_a_pixel_whose_winner_doubts_it_stays_void():
    logits = torch.stack([square(0, 0, 10, 5, inside=-0.5), square(0, 0, 10, 9, inside=0.2)])
    scores = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    panoptic, segments = merge_panoptic(
        scores, MaskGrid(logits), [True, True], object_threshold=0.0, overlap_threshold=0.0
    )
    assert (panoptic[:, :5] == 0).all(), "the first mask wins there with probability 0.38"
    assert (panoptic[:, 5:9] == 1).all() and [segment["query"] for segment in segments] == [1]


def test_stuff_of_one_class_is_joined_and_things_are_not():
    logits = torch.stack([square(0, 0, 10, 3), square(0, 6, 10, 9)])
    scores = torch.tensor([[0.6, 0.0], [0.7, 0.0]])
    for isthing, areas in ([True, False], [30, 30]), ([False, False], [60]):
        _, segments = merge_panoptic(scores, MaskGrid(logits), isthing, object_threshold=0.1, overlap_threshold=0.8)
        assert [segment["area"] for segment in segments] == areas
    assert segments[0]["query"] == 1 and segments[0]["bbox"] == [0, 0, 9, 10]


@pytest.mark.parametrize("queries", [0, 1, 3])
def test_without_a_mask_above_the_threshold_all_is_void(queries):
    panoptic, segments = merge_panoptic(
        torch.full((queries, 2), 0.5),
        MaskGrid(torch.full((queries, 5, 7), 3.0)),
        [True, False],
        object_threshold=0.5,
        overlap_threshold=0.8,
    )
    assert panoptic.shape == (5, 7) and panoptic.dtype == torch.int32 and not panoptic.any()
    assert segments == []


def test_masks_that_contain_no_pixel_make_no_segment():
    panoptic, segments = merge_panoptic(
        torch.tensor([[0.9]]),
        MaskGrid(torch.full((1, 4, 4), -1.0)),
        [True],
        object_threshold=0.1,
        overlap_threshold=0.8,
    )
    assert not panoptic.any() and segments == []


def test_masks_below_the_threshold_are_never_looked_at():
    scores, logits, isthing = random_case(1, 25, 4, 33, 24)
    thresholds = {"object_threshold": 0.5, "overlap_threshold": 0.8}
    expected = merge_panoptic(scores, MaskGrid(logits), isthing, **thresholds)
    logits[scores.amax(1) <= 0.5] = float("nan")
    got = merge_panoptic(scores, MaskGrid(logits), isthing, **thresholds)
    assert torch.equal(got[0], expected[0]) and got[1] == expected[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"object_threshold": 1.1}, "object_threshold must be in"),
        ({"overlap_threshold": -0.1}, "overlap_threshold must be in"),
        ({"isthing": [True]}, "each of the 2 classes, got 1"),
        ({"masks": MaskGrid(torch.zeros(2, 4, 4))}, "of the same Q"),
        ({"scores": torch.zeros(3)}, "scores Q×K"),
        ({"scores": torch.zeros(3, 0)}, "at least one class"),
    ],
)
def test_wrong_input_is_refused(change, message):
    arguments = {"scores": torch.zeros(3, 2), "masks": MaskGrid(torch.zeros(3, 4, 4)), "isthing": [True, False]}
    arguments |= {"object_threshold": 0.1, "overlap_threshold": 0.8} | change
    with pytest.raises(ValueError, match=message):
        merge_panoptic(**arguments)
