"""The pre-training of the miniature SAM reads images as the frozen encoder does."""

import argparse

import pretrain_mini_sam as tool
import pytest
import torch

from possam.encoders import FrozenSAM


@pytest.mark.parametrize("size", [128, 160])
def test_features_are_those_of_the_frozen_encoder(size):
    sam = FrozenSAM.build(name="mini", weights="shipped")
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(tool.encode(sam.encoder, images, size), sam.final(images.float()), atol=2e-5)


@pytest.mark.parametrize("text", ["0", "130", "-8", "large"])
def test_a_size_that_patches_do_not_fill_is_refused(text):
    assert tool._side("160") == 160
    with pytest.raises(argparse.ArgumentTypeError, match="no positive multiple of 8"):
        tool._side(text)
