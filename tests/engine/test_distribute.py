"""Every process of a run has the same model, random buffers included."""

import pytest
import torch

from possam.d2.engine import launch
from possam.decoders import TwoWayDecoder
from possam.engine.trainer import distribute


def _work(folder):
    rank = torch.distributed.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(7 + rank)
    decoder = TwoWayDecoder(
        in_channels=16, in_stride=16, channels=16, queries=3, layers=1, heads=2, feedforward=16, iou_head=True
    )
    torch.save(distribute(decoder).module.state_dict(), f"{folder}/{rank}.pth")


@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs, launch() joins processes by NCCL")
def test_random_buffers_are_those_of_the_first_process(tmp_path):
    launch(_work, 2, dist_url="auto", args=(str(tmp_path),))
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1))
    assert any("gaussian" in key for key in first)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
