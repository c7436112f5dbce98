import pytest
import torch

from possam.inference import MaskGrid, merge_semantic


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


def test_scores_weigh_masks():
    logits = torch.stack([torch.full((2, 2), 2.0), torch.full((2, 2), 1.0)])
    assert (merge_semantic(torch.tensor([[0.2, 0.0], [0.0, 0.9]]), MaskGrid(logits)) == 1).all()
    assert (merge_semantic(torch.tensor([[0.9, 0.0], [0.0, 0.9]]), MaskGrid(logits)) == 0).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="of the same Q"):
        merge_semantic(torch.zeros(2, 3), MaskGrid(torch.zeros(3, 4, 4)))
