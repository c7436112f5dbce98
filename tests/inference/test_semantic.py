import pytest
import torch
import torch.nn.functional as F

from possam.inference import MaskGrid, merge_semantic, merge_semantic_scores, semantic


def reference(scores, logits):
    total = sum(score[:, None, None] * mask.sigmoid() for score, mask in zip(scores, logits, strict=True))
    return total.argmax(dim=0)


@pytest.mark.parametrize(
    ("queries", "classes", "height", "width"), [(5, 3, 7, 9), (250, 40, 33, 21), (1, 1, 2, 2)]
)
def test_every_pixel_takes_the_class_of_largest_sum(queries, classes, height, width):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(queries, classes, generator=generator).double()
    logits = torch.randn(queries, height, width, generator=generator).double() * 3
    got = merge_semantic(scores.float(), MaskGrid(logits.float()))
    assert got.dtype == torch.int64
    assert torch.equal(got, reference(scores, logits))


def test_the_sums_of_thousands_of_classes_are_bounded(monkeypatch):
    """Near synonyms, all of which may win everywhere."""
    generator = torch.Generator().manual_seed(0)
    scores = 0.5 + 1e-3 * torch.rand(6, 3000, generator=generator).double()
    scores[:, [7, 2500]] = scores.amax(dim=1, keepdim=True)  # a tie at every pixel: the first of them wins
    logits = torch.randn(6, 40, 50, generator=generator).double() * 3
    sizes, sums = [], semantic._sums
    monkeypatch.setattr(semantic, "_sums", lambda *inputs: sizes.append((made := sums(*inputs)).numel()) or made)
    expected = reference(scores.float().double(), logits.float().double())
    assert torch.equal(merge_semantic(scores.float(), MaskGrid(logits.float())), expected)
    whole = sizes.copy()
    sizes.clear()
    monkeypatch.setattr(semantic, "_SUMS", 100_000)
    assert torch.equal(merge_semantic(scores.float(), MaskGrid(logits.float())), expected)
    assert max(sizes) <= 100_000 < max(whole) and sum(sizes) == sum(whole)
    assert (expected == 7).all()


def test_scores_weigh_masks():
    logits = torch.stack([torch.full((2, 2), 2.0), torch.full((2, 2), 1.0)])
    assert (merge_semantic(torch.tensor([[0.2, 0.0], [0.0, 0.9]]), MaskGrid(logits)) == 1).all()
    assert (merge_semantic(torch.tensor([[0.9, 0.0], [0.0, 0.9]]), MaskGrid(logits)) == 0).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="of the same Q"):
        merge_semantic(torch.zeros(2, 3), MaskGrid(torch.zeros(3, 4, 4)))


SIZES = [
    {"padded_size": (64, 96), "image_size": (50, 90), "output_size": (75, 111)},
    {"padded_size": (64, 96), "image_size": (64, 96), "output_size": (31, 40)},
    {"padded_size": (64, 96), "image_size": (33, 70), "output_size": (33, 70)},
]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("classes", [5, 64, 150])
def test_sums_at_the_images_size_are_resized_to_the_output(sizes, classes):
    """Of 150 classes, which are more than are held at once, the winner is still the largest of all."""
    generator = torch.Generator().manual_seed(classes)
    scores = torch.rand(20, classes, generator=generator)
    logits = 4 * torch.randn(20, 16, 24, generator=generator)
    padded = F.interpolate(logits[None], size=sizes["padded_size"], mode="bilinear", align_corners=False)[0]
    height, width = sizes["image_size"]
    sums = torch.einsum("qk,qhw->khw", scores, padded[:, :height, :width].sigmoid())
    resized = F.interpolate(sums[None], size=sizes["output_size"], mode="bilinear", align_corners=False)[0]
    got = merge_semantic_scores(scores, MaskGrid(logits, **sizes))
    assert got.dtype == torch.int64 and got.shape == sizes["output_size"]
    best, taken = resized.max(dim=0).values, resized.gather(0, got[None])[0]
    torch.testing.assert_close(taken, best, atol=0, rtol=2e-6)  # the same class, or one that ties within rounding
    assert (got != resized.argmax(dim=0)).float().mean() < 1e-3
    assert classes < 64 or got.max() >= 64 * ((classes - 1) // 64)


def test_of_classes_that_tie_the_lower_one_is_taken_also_among_other_chunks():
    scores = torch.zeros(1, 130)
    scores[0, [70, 129]] = 0.5
    got = merge_semantic_scores(scores, MaskGrid(torch.full((1, 4, 4), 3.0)))
    assert (got == 70).all()
    assert (merge_semantic_scores(torch.zeros(1, 130), MaskGrid(torch.zeros(1, 4, 4))) == 0).all()


def test_wrong_shapes_are_refused_for_sums_as_well():
    with pytest.raises(ValueError, match="of the same Q"):
        merge_semantic_scores(torch.zeros(2, 3), MaskGrid(torch.zeros(3, 4, 4)))
