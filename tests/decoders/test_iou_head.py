import pytest
import torch

from possam.decoders import MaskDecoder
from possam.decoders.iou_head import IoUHead, PerfectIoU, build_iou_head


def test_one_layer_is_a_linear_map_of_the_query():
    torch.manual_seed(0)
    head = build_iou_head(8, True, 1)
    assert isinstance(head, IoUHead) and {k: tuple(v.shape) for k, v in head.state_dict().items()} == {
        "layers.0.weight": (1, 8), "layers.0.bias": (1,)
    }  # fmt: skip
    x = torch.randn(2, 5, 8)
    layer = head.layers[0]
    torch.testing.assert_close(head(x), (x @ layer.weight[0] + layer.bias[0]).sigmoid())


def test_three_layers_are_the_default_and_none_is_one_everywhere():
    assert len(build_iou_head(8, True).layers) == 3
    assert isinstance(build_iou_head(8, False, 1), PerfectIoU)
    with pytest.raises(ValueError, match="layers=0"):
        build_iou_head(8, True, 0)


def test_the_decoder_has_the_head_asked_for():
    decoder = MaskDecoder(channels=8, queries=2, layers=3, heads=2, feedforward=8, iou_head_layers=1)
    assert len(decoder.iou_head.layers) == 1
