"""Boxes and instances of the built-in runtime."""

import pytest
import torch

from possam.d2._runtime.structures import Boxes, Instances


def test_boxes_are_indexed_like_a_tensor():
    boxes = Boxes(torch.tensor([[0, 1, 20, 4], [2, 2, 2, 8]]))
    assert len(boxes) == 2 and boxes.tensor.dtype == torch.float32
    assert boxes[0].tensor.tolist() == [[0, 1, 20, 4]]
    assert boxes[torch.tensor([False, True])].tensor.tolist() == [[2, 2, 2, 8]]
    assert Boxes(torch.empty(0)).tensor.shape == (0, 4)
    with pytest.raises(AssertionError):
        Boxes(torch.zeros(2, 3))


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
