import torch

from possam.layers.segment_masks import SegmentMasks


def test_masks_are_where_the_map_has_their_value():
    index = torch.tensor([[0, 7, 7], [2, 0, 7]], dtype=torch.uint8)
    masks = SegmentMasks(index, torch.tensor([2, 7]))
    assert len(masks) == 2
    assert masks.tensor.tolist() == [
        [[False, False, False], [True, False, False]],
        [[False, True, True], [False, False, True]],
    ]
    assert masks.to("meta").tensor.shape == (2, 2, 3)


def test_more_segments_than_bytes_have_values():
    index = torch.arange(600).view(20, 30)
    masks = SegmentMasks(index, torch.tensor([258, 2]))
    assert masks.tensor.flatten(1).nonzero().tolist() == [[0, 258], [1, 2]]


def test_no_masks():
    assert SegmentMasks(torch.zeros(4, 5, dtype=torch.uint8), torch.tensor([])).tensor.shape == (0, 4, 5)
