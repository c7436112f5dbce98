import torch

from possam.inference import boxes_of_masks
from possam.inference.boxes import boxes_of_segments


def test_boxes_are_tight_and_an_empty_mask_has_an_empty_one():
    masks = torch.zeros(4, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 3:7] = True
    masks[1, 5, 7] = True
    masks[2] = True
    assert boxes_of_masks(masks).tolist() == [[3, 2, 7, 4], [7, 5, 8, 6], [0, 0, 8, 6], [0, 0, 0, 0]]


def test_no_masks_give_no_boxes():
    boxes = boxes_of_masks(torch.zeros(0, 6, 8, dtype=torch.bool))
    assert boxes.shape == (0, 4) and boxes.dtype == torch.float32


def test_boxes_of_segments_are_those_of_their_masks():
    ids = torch.randint(-6, 4, (9, 11), generator=torch.Generator().manual_seed(0)).clamp(min=0).int()
    boxes = boxes_of_segments(ids, 5)
    assert torch.equal(boxes, boxes_of_masks(torch.stack([ids == segment for segment in range(1, 6)])))
    assert boxes[4].tolist() == [0, 0, 0, 0] and boxes[:3].any(dim=1).all()
    assert boxes_of_segments(ids, 3).shape == (3, 4) and boxes_of_segments(torch.zeros_like(ids), 0).shape == (0, 4)
