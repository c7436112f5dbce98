"""RoI embeddings equal a plain RoIAlign on the right level; empty boxes are zero."""

import torch
from torch import nn

from possam.classifiers.roi_embedding import RoIEmbedding, levels_of_boxes
from tests.reference import ovsam as reference

BOXES = torch.tensor(
    [[3.0, 5, 40, 30], [0, 0, 127, 127], [10, 20, 122, 132], [-9, 60, 50, 140], [0, 0, 0, 0]]
)


def pyramid(images=1):
    generator = torch.Generator().manual_seed(0)
    return {s: torch.randn(images, 4, 128 // s, 128 // s, generator=generator) for s in reference.LEVELS}


def test_equals_the_plain_formula_for_every_image():
    torch.manual_seed(0)
    head, maps = RoIEmbedding(channels=4, embed_dim=6, cells=3), pyramid(2)
    nn.init.normal_(head.projection.weight)
    found = head(maps, [BOXES[:2], BOXES[2:]])
    state = {"mask_decoder.roi_conv.0.conv.weight": head.projection.weight}
    for index, box in enumerate(BOXES):
        own = {stride: values[int(index > 1)][None] for stride, values in maps.items()}
        assert torch.allclose(found[index], reference.class_embedding(state, own, box, 3), atol=1e-5)
    assert (found >= 0).all() and not found[-1].any() and found[:-1].any(1).all()


def test_levels_go_by_the_side_of_the_square_of_the_same_area():
    sides = torch.tensor([0.0, 10, 55.9, 56, 111.9, 112, 223, 224.1, 447, 448.1, 2000])
    boxes = torch.stack([sides * 0, sides * 0, sides * 2, sides / 2], dim=1)
    assert levels_of_boxes(boxes, (4, 8, 16, 32)).tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert levels_of_boxes(boxes, (4, 8, 16, 32)).tolist() == [reference.box_level(box) for box in boxes]
    assert levels_of_boxes(boxes / 2, (2, 4, 8)).tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2]


def test_no_box_gives_nothing_and_every_level_a_gradient():
    head = RoIEmbedding(channels=4, embed_dim=6)
    maps = {stride: values.requires_grad_() for stride, values in pyramid().items()}
    found = head(maps, [BOXES[:0]])
    found.sum().backward()
    assert found.shape == (0, 6) and all(values.grad is not None for values in maps.values())
