import torch

from possam.inference import boxes_of_masks


def test_boxes_are_tight_and_an_empty_mask_has_an_empty_one():
    masks = torch.zeros(4, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 3:7] = True
    masks[1, 5, 7] = True
    masks[2] = True
    assert boxes_of_masks(masks).tolist() == [[3, 2, 7, 4], [7, 5, 8, 6], [0, 0, 8, 6], [0, 0, 0, 0]]


def test_no_masks_give_no_boxes():
    boxes = boxes_of_masks(torch.zeros(0, 6, 8, dtype=torch.bool))
    assert boxes.shape == (0, 4) and boxes.dtype == torch.float32
