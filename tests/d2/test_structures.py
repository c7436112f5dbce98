"""Boxes, masks, image lists and instances of the built-in runtime."""

import numpy as np
import pytest
import torch

from possam.d2._runtime.structures import BitMasks, Boxes, BoxMode, ImageList, Instances, PolygonMasks, pairwise_iou


def test_box_modes_convert_both_ways_in_the_type_that_came():
    tensor = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    there = BoxMode.convert(tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert there.tolist() == [[1, 2, 3, 6]] and tensor.tolist() == [[1, 2, 4, 8]]
    assert BoxMode.convert((1, 2, 3, 6), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) == (1, 2, 4, 8)
    array = BoxMode.convert(np.array([[1, 2, 3, 6]]), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    assert isinstance(array, np.ndarray) and array.tolist() == [[1, 2, 4, 8]]
    with pytest.raises(NotImplementedError, match="XYXY_REL"):
        BoxMode.convert([0, 0, 1, 1], BoxMode.XYXY_REL, BoxMode.XYXY_ABS)


def test_iou_agrees_with_counting_pixels():
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 10, (6, 2, 2), generator=generator).sort(dim=1).values
    boxes = Boxes(corners.reshape(6, 4))
    drawn = torch.zeros(6, 10, 10, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(drawn, boxes.tensor.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    flat = drawn.flatten(1).float()
    common = flat @ flat.T
    union = flat.sum(1)[:, None] + flat.sum(1) - common
    assert torch.allclose(pairwise_iou(boxes, boxes), common / union.clamp(min=1))
    assert torch.equal(boxes.area(), flat.sum(1))


def test_boxes_clip_index_and_join():
    boxes = Boxes(torch.tensor([[-5.0, 1.0, 30.0, 4.0], [2.0, 2.0, 2.0, 9.0]]))
    assert boxes.nonempty().tolist() == [True, False]
    assert len(boxes[0]) == 1 and len(boxes[torch.tensor([False, True])]) == 1
    boxes.clip((8, 20))
    assert boxes.tensor.tolist() == [[0, 1, 20, 4], [2, 2, 2, 8]]
    assert len(Boxes.cat([boxes, boxes])) == 4 and len(Boxes.cat([])) == 0


def test_boxes_of_bitmasks_are_tight():
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 1:3, 2:7] = True
    masks[1, 5, 0] = True
    bits = BitMasks(masks)
    assert bits.get_bounding_boxes().tensor.tolist() == [[2, 1, 7, 3], [0, 5, 1, 6], [0, 0, 0, 0]]
    assert bits.nonempty().tolist() == [True, True, False]
    assert len(BitMasks.cat([bits, bits[0]])) == 4


def test_polygons_are_drawn_and_indexed():
    square = [np.array([1, 1, 5, 1, 5, 4, 1, 4])]
    polygons = PolygonMasks([square, [], square])
    assert BitMasks.from_polygon_masks(polygons, 6, 8).tensor.sum((1, 2)).tolist() == [12, 0, 12]
    assert polygons.get_bounding_boxes().tensor.tolist() == [[1, 1, 5, 4], [0, 0, 0, 0], [1, 1, 5, 4]]
    assert polygons.nonempty().tolist() == [True, False, True]
    for index, length in [(0, 1), (slice(1, 3), 2), ([0, 2], 2), (torch.tensor([True, False, False]), 1)]:
        assert len(polygons[index]) == length
    with pytest.raises(ValueError, match="at least 6"):
        PolygonMasks([[np.array([1, 2, 3, 4])]])


def test_images_are_padded_right_and_below():
    images = [torch.ones(3, 4, 7), torch.ones(3, 6, 5)]
    batch = ImageList.from_tensors(images, size_divisibility=8, pad_value=-1.0)
    assert batch.tensor.shape == (2, 3, 8, 8) and batch.image_sizes == [(4, 7), (6, 5)]
    assert torch.equal(batch[1], images[1])
    assert (batch.tensor[0, :, 4:] == -1).all() and (batch.tensor[0, :, :, 7:] == -1).all()
    square = ImageList.from_tensors(images, padding_constraints={"square_size": 10})
    assert square.tensor.shape[-2:] == (10, 10)


def test_instances_keep_their_fields_in_step():
    instances = Instances((4, 5), scores=torch.tensor([0.1, 0.2, 0.3]), names=["a", "b", "c"])
    assert len(instances) == 3 and instances.image_size == (4, 5)
    assert instances[-1].names == ["c"] and len(instances[1]) == 1
    assert instances[torch.tensor([True, False, True]).nonzero()[:, 0][:1].item()].names == ["a"]
    with pytest.raises(AssertionError, match="length"):
        instances.boxes = Boxes(torch.zeros(2, 4))
    with pytest.raises(AttributeError, match="scores"):
        _ = instances.masks
    with pytest.raises(IndexError):
        instances[3]
    joined = Instances.cat([instances, instances])
    assert len(joined) == 6 and joined.names == ["a", "b", "c"] * 2
    assert joined.to("cpu").has("scores")
