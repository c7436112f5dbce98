"""Every process of a run has the same model, random buffers included."""

import torch

from possam.decoders import TwoWayDecoder
from possam.engine.trainer import distribute


def _work(folder):
    rank = torch.distributed.get_rank()
    torch.manual_seed(7 + rank)
    decoder = TwoWayDecoder(
        in_channels=16, in_stride=16, channels=16, queries=3, layers=1, heads=2, feedforward=16, iou_head=True
    )
    torch.save(distribute(decoder).module.state_dict(), f"{folder}/{rank}.pth")


def test_random_buffers_are_those_of_the_first_process(two_processes, tmp_path):
    two_processes(_work, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1))
    assert any("gaussian" in key for key in first)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
