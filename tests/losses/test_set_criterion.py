import pytest
import torch
from torch.nn import functional as F

from possam.losses import HungarianMatcher, LayerOutput, Match, SetCriterion, Target, set_criterion
from possam.losses.mask_losses import thresholded_iou
from tests.reference.losses import plain_losses


class FixedMatcher:
    """Always the same queries for an image's segments, in order."""

    points = 8

    def __init__(self, *queries):
        self.queries = [torch.tensor(q, dtype=torch.int64) for q in queries]

    def __call__(self, layers, targets, mask_features, points):
        return [
            Match(queries.expand(len(layers), -1), torch.arange(len(queries)).expand(len(layers), -1))
            for queries in self.queries
        ]


SIZE = 8
FEATURES = torch.eye(SIZE**2).view(1, SIZE**2, SIZE, SIZE)


def make_output(batch=2, queries=6, classes=4):
    parts = (torch.randn(batch, queries, classes + 1), torch.randn(batch, queries, SIZE**2), torch.rand(batch, queries))
    return LayerOutput(*(x.requires_grad_() for x in parts))


def losses_of(criterion, layers, targets):
    """With mask features whose products with embeddings are these embeddings."""
    return criterion(layers, targets, FEATURES.repeat(len(layers[0].iou), 1, 1, 1))


def masks_of(layer):
    return layer.mask_embeddings.unflatten(2, (SIZE, SIZE))


def make_target(count, classes=4, size=32):
    coarse = torch.randn(1, max(count, 1), 4, 4)
    masks = F.interpolate(coarse, size=(size, size), mode="bilinear")[0, :count] > 0
    return Target(torch.randint(0, classes, (count,)), masks)


EMPTY = [make_target(0), make_target(0)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_names_of_all_layers():
    criterion = SetCriterion(matcher=HungarianMatcher(points=64), points=64)
    losses = losses_of(criterion, [make_output() for _ in range(3)], [make_target(2), make_target(3)])
    assert set(losses) == {
        f"loss_{part}{suffix}" for part in ("class", "mask", "dice", "iou") for suffix in ("", "_0", "_1")
    }
    assert all(loss.shape == () and loss.dtype == torch.float32 for loss in losses.values())


def test_the_last_layer_has_no_number():
    output, target = make_output(), [make_target(2), make_target(3)]
    criterion = SetCriterion(matcher=FixedMatcher([0, 1], [0, 1, 2]), points=64)
    final, early = losses_of(criterion, [output], target), losses_of(criterion, [make_output(), output], target)
    torch.testing.assert_close(final["loss_class"], early["loss_class"])
    assert not torch.allclose(early["loss_class_0"], early["loss_class"])


def test_class_loss_is_the_weighted_cross_entropy():
    output, targets = make_output(), [make_target(2), make_target(1)]
    criterion = SetCriterion(matcher=FixedMatcher([4, 1], [3]), class_weight=3.0, no_object_weight=0.1, points=64)
    loss = losses_of(criterion, [output], targets)["loss_class"]
    expected = {(0, 4): targets[0].labels[0], (0, 1): targets[0].labels[1], (1, 3): targets[1].labels[0]}
    total = weights = 0.0
    for b in range(2):
        for q in range(6):
            label = int(expected.get((b, q), 4))
            weight = 0.1 if label == 4 else 1.0
            total += weight * -output.class_logits[b, q].log_softmax(-1)[label].item()
            weights += weight
    assert loss.item() == pytest.approx(3 * total / weights, rel=1e-5)


def test_iou_loss_is_the_mean_square_over_all_queries():
    output, targets = make_output(), [make_target(2), make_target(1)]
    criterion = SetCriterion(matcher=FixedMatcher([4, 1], [3]), iou_weight=2.0, points=64)
    loss = losses_of(criterion, [output], targets)["loss_iou"]
    quality = torch.zeros(2, 6)
    quality[0, [4, 1]] = thresholded_iou(masks_of(output)[0, [4, 1]], targets[0].masks, torch.arange(2))
    quality[1, [3]] = thresholded_iou(masks_of(output)[1, [3]], targets[1].masks, torch.arange(1))
    assert 0 < quality[0, 4] < 1
    assert loss.item() == pytest.approx(2 * ((output.iou - quality) ** 2).mean().item(), rel=1e-5)
    loss.backward()
    assert output.iou.grad.abs().sum() > 0 and output.mask_embeddings.grad is None


def test_mask_losses_follow_constant_masks():
    """Masks alike at all inner points: the losses do not depend on where points fall, but for the rim."""
    embeddings = torch.zeros(1, 3, 1)
    embeddings[0, 0], embeddings[0, 2] = 2.0, -3.0
    features = torch.ones(1, 1, 64, 64)
    output = LayerOutput(torch.zeros(1, 3, 5), embeddings, torch.zeros(1, 3))
    target = Target(torch.tensor([0, 1]), torch.ones(2, 128, 128, dtype=torch.bool))
    criterion = SetCriterion(matcher=FixedMatcher([0, 2]), points=2000, oversample=1.0, importance=0.0)
    losses = criterion([output], [target], features)
    p = torch.tensor([2.0, -3.0]).sigmoid()
    assert losses["loss_mask"].item() == pytest.approx(5 * -p.log().mean().item(), rel=0.05)
    assert losses["loss_dice"].item() == pytest.approx(5 * (1 - 2 * p / (p + 1)).mean().item(), rel=0.05)


def test_order_of_segments_does_not_matter():
    output, target = make_output(batch=1), make_target(4)
    swapped = Target(target.labels.flip(0), target.masks.flip(0))
    parts = []
    for targets, queries in (([target], [5, 0, 3, 2]), ([swapped], [2, 3, 0, 5])):
        criterion = SetCriterion(matcher=FixedMatcher(queries), points=20000)
        parts.append(losses_of(criterion, [output], targets))
    for name in parts[0]:
        torch.testing.assert_close(parts[0][name], parts[1][name], atol=0, rtol=0.03)


def test_more_segments_than_queries(caplog):
    output = make_output(queries=3)
    criterion = SetCriterion(matcher=HungarianMatcher(points=64), points=64)
    losses = losses_of(criterion, [output], [make_target(5), make_target(1)])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert (output.mask_embeddings.grad.abs().sum(-1) > 0).sum() == 3 + 1
    losses_of(criterion, [make_output(queries=3)], [make_target(7), make_target(1)])
    (record,) = caplog.records  # once
    assert "has 5 segments, but the model 3 queries" in record.getMessage()


def test_as_many_segments_as_queries_are_nothing_to_tell(caplog):
    criterion = SetCriterion(matcher=HungarianMatcher(points=64), points=64)
    losses_of(criterion, [make_output(queries=3)], [make_target(3), make_target(0)])
    assert not caplog.records


def test_a_batch_without_segments_keeps_all_predictions_in_the_graph():
    outputs = [make_output() for _ in range(2)]
    criterion = SetCriterion(matcher=HungarianMatcher(points=64), points=64)
    losses = losses_of(criterion, outputs, [make_target(0), make_target(0)])
    assert losses["loss_mask"] == 0 and losses["loss_dice_0"] == 0
    assert losses["loss_iou"].item() == pytest.approx(5 * outputs[1].iou.square().mean().item())
    sum(losses.values()).backward()
    for output in outputs:
        assert all(x.grad is not None and x.grad.isfinite().all() for x in output)
        assert output.class_logits.grad.abs().sum() > 0 and output.mask_embeddings.grad.abs().sum() == 0


def test_training_on_one_image_finds_masks_classes_and_quality():
    target = make_target(3)
    raw = [torch.randn(1, 5, 5), torch.randn(1, 5, SIZE**2) * 0.1, torch.zeros(1, 5)]
    for x in raw:
        x.requires_grad_()
    optimizer = torch.optim.Adam(raw, lr=0.15)
    criterion = SetCriterion(matcher=HungarianMatcher(points=256), points=256)
    for _ in range(80):
        output = LayerOutput(raw[0], raw[1], raw[2].sigmoid())
        optimizer.zero_grad()
        sum(losses_of(criterion, [output], [target]).values()).backward()
        optimizer.step()
    ((queries, segments),) = HungarianMatcher(points=1024)([output], [target], FEATURES, torch.rand(1, 1024, 2))
    queries, segments = queries[0], segments[0]
    assert torch.equal(output.class_logits[0, queries].argmax(-1), target.labels[segments])
    quality = thresholded_iou(masks_of(output)[0, queries], target.masks, segments)
    assert (quality > 0.85).all()
    assert (output.iou[0, queries] - quality).abs().max() < 0.15
    others = [query for query in range(5) if query not in queries.tolist()]
    assert (output.class_logits[0, others].argmax(-1) == 4).all() and (output.iou[0, others] < 0.1).all()


def test_half_precision_predictions_give_float32_losses():
    output = make_output()
    criterion = SetCriterion(matcher=FixedMatcher([0, 1], [0, 1, 2]), points=256)
    targets = [make_target(2), make_target(3)]
    torch.manual_seed(1)
    expected = losses_of(criterion, [output], targets)
    half = LayerOutput(output.class_logits.bfloat16(), output.mask_embeddings.bfloat16(), output.iou)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(criterion, [half], targets)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name], atol=0.02, rtol=0.03)


@pytest.mark.parametrize("counts", [(3, 2), (0, 4), (9, 1), (0, 0)])
def test_losses_and_gradients_equal_the_plain_ones(counts):
    """All layers and images at once, against a loop over them (nine segments are more than there are queries)."""
    layers, targets = [make_output() for _ in range(3)], [make_target(count) for count in counts]
    features = torch.randn(2, SIZE**2, SIZE, SIZE, requires_grad=True)
    criterion = SetCriterion(matcher=HungarianMatcher(points=100), no_object_weight=0.2, points=80)
    gradients = []

    def backward(losses):
        leaves = [features, *(x for layer in layers for x in layer)]
        gradients.append(torch.autograd.grad(sum(losses.values()), leaves))
        return losses

    torch.manual_seed(3)
    ours = backward(criterion(layers, targets, features))
    torch.manual_seed(3)
    drawn = criterion.draw_points(2, torch.device("cpu"))
    masks = [torch.einsum("bqm,bmhw->bqhw", layer.mask_embeddings, features) for layer in layers]
    theirs = backward(
        plain_losses(layers, masks, targets, drawn, weights=criterion.weights, no_object_weight=0.2, points=80)
    )
    assert set(ours) == set(theirs)
    for name, loss in ours.items():
        torch.testing.assert_close(loss, theirs[name], atol=1e-6, rtol=1e-6)
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


def test_no_weight_on_no_object_and_no_segment_is_no_loss():
    criterion = SetCriterion(matcher=HungarianMatcher(points=8), points=8, no_object_weight=0)
    losses = losses_of(criterion, [make_output()], EMPTY)
    assert losses["loss_class"] == 0


@pytest.fixture
def another_process(monkeypatch):
    """Makes this process one of two, of which the other has given segments and class weight; lists the sums."""
    sums = []

    def pretend(others):
        def all_reduce(counts):
            counts += torch.tensor(others)
            sums.append(counts.tolist())

        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
        monkeypatch.setattr(set_criterion.comm, "get_world_size", lambda: 2)
        monkeypatch.setattr(set_criterion.comm, "get_rank", lambda: 0)
        return sums

    return pretend


def test_segments_are_averaged_over_processes(another_process):
    output, target = make_output(batch=1), make_target(3)
    criterion = SetCriterion(matcher=FixedMatcher([0, 1, 2]), points=64)
    torch.manual_seed(1)
    alone = losses_of(criterion, [output], [target])
    sums = another_process([9.0, 9.9, 1.0])
    torch.manual_seed(1)
    together = losses_of(criterion, [output, output], [target])
    assert sums == [pytest.approx([12, 13.2, 2])]  # once, not once a layer or loss
    for name, share in (("loss_mask", 3 / 6), ("loss_dice", 3 / 6), ("loss_class", 3.3 / 6.6), ("loss_iou", 1)):
        torch.testing.assert_close(together[name + "_0"], share * alone[name])


def test_a_process_without_segments_takes_part_in_the_sum(another_process):
    sums = another_process([3.0, 3.3, 1.0])
    criterion = SetCriterion(matcher=HungarianMatcher(points=8), points=8)
    losses = losses_of(criterion, [make_output(batch=1)], [make_target(0)])
    assert sums == [pytest.approx([3, 3.9, 2])] and losses["loss_mask"] == 0


def test_costs_that_are_not_finite_are_found_after_the_sum(another_process):
    """The other process would wait for the sum without end."""
    sums = another_process([3.0, 3.3, 1.0])
    output = make_output(batch=1)
    output.class_logits.data[0, 1] = float("nan")
    with pytest.raises(FloatingPointError):
        losses_of(SetCriterion(matcher=HungarianMatcher(points=8), points=8), [output], [make_target(2)])
    assert len(sums) == 1


def test_wrong_settings_and_inputs():
    matcher = HungarianMatcher(points=8)
    with pytest.raises(ValueError, match="importance=2"):
        SetCriterion(matcher=matcher, importance=2)
    with pytest.raises(ValueError, match="must not be negative.*'dice': -1"):
        SetCriterion(matcher=matcher, dice_weight=-1)
    with pytest.raises(ValueError, match="at least one layer"):
        SetCriterion(matcher=matcher)([], [], torch.zeros(0, 1, 8, 8))
    with pytest.raises(ValueError, match="targets of 1 images"):
        losses_of(SetCriterion(matcher=matcher), [make_output()], [make_target(1)])
