"""The ways that only CUDA goes, with tensors that say they are there and hold no numbers: devices and types fit."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from possam.classifiers import LocalDiscriminativePooling
from possam.decoders import DeformablePixelDecoder, MaskDecoder
from possam.encoders import FrozenSAM

DEVICE = torch.device("cuda:1")  # not the current one
pytestmark = pytest.mark.skipif(torch.__version__ < "2.11", reason="fake tensors of older versions ask for a driver")


@pytest.fixture(params=[None, torch.bfloat16, torch.float16])
def precision(request):
    """Of autocast, which `torch.autocast` itself leaves off where there is no GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    if request.param:
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", request.param)
    yield request.param
    torch.set_autocast_enabled("cuda", before[0])
    torch.set_autocast_dtype("cuda", before[1])


def on_device(module):
    """The module with parameters and buffers on the device; to be called among fake tensors."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: torch.empty_like(x, device=DEVICE) for name, x in held.items() if x is not None})
    return module


@pytest.mark.parametrize("training", [True, False])
def test_decoders_and_class_embeddings(precision, training):
    with FakeTensorMode(), DEVICE:
        pixels, masks = DeformablePixelDecoder(layers=1), MaskDecoder(layers=3, queries=50)
        ldp = LocalDiscriminativePooling(channels=256, clip_channels=96, embed_dim=64)
        pyramid = {stride: torch.empty(2, 256, 512 // stride, 512 // stride) for stride in (4, 8, 16, 32)}
        mask_features, scales = pixels(pyramid)
        layers = masks.train(training)(mask_features, scales)
        queries, logits = [layer.queries for layer in layers], [layer.mask_logits for layer in layers]
        embeddings = ldp.embed_layers(queries, logits, mask_features, torch.empty(2, 96, 16, 16))
    assert embeddings.shape == (4 if training else 1, 2, 50, 64)
    assert logits[-1].dtype == (precision or torch.float32) and layers[-1].iou.dtype == torch.float32
    assert {x.device for x in (*logits, *queries, embeddings)} == {DEVICE}


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_sam(precision, size):
    frozen = FrozenSAM.build(name="vit_tiny")
    with FakeTensorMode(allow_non_fake_inputs=True):
        features = on_device(frozen).final(torch.empty(2, 3, *size, device=DEVICE))
    assert features.shape == (2, 16, size[0] // 16, size[1] // 16)
    assert features.device == DEVICE and features.dtype == torch.float32 and not features.is_inference()
