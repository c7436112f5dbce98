import pytest
import torch

from possam.inference.resized_axis import ResizedAxis

CPU = torch.device("cpu")


@pytest.mark.parametrize("lengths", [(16, 64, 50, 123), (16, 64, 64, 16), (16, 16, 16, 16), (256, 1024, 768, 480)])
def test_pixels_are_weighted_means_of_their_own_cells(lengths):
    cells, _, _, pixels = lengths
    axis = ResizedAxis(*lengths, device=CPU)
    assert axis.weights.shape == (pixels, cells) and (axis.weights >= 0).all()
    torch.testing.assert_close(axis.weights.sum(dim=1), torch.ones(pixels))
    for run in (slice(0, 1), slice(3, 9), slice(pixels - 5, pixels), slice(0, pixels)):
        used = (axis.weights[run] > 0).any(dim=0).nonzero()
        assert axis.cells(run) == slice(int(used.min()), int(used.max()) + 1)
        weights, own = axis.part(run)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights)))
        assert torch.equal(weights, axis.weights[run, own])


def test_nothing_of_the_padding_reaches_a_pixel_beyond_the_image_s_last_one():
    # 40 of 64 pixels are image: the last of them, the 40th, lies between the cells 9 and 10 of stride 4.
    assert ResizedAxis(16, 64, 40, 80, device=CPU).cells(slice(0, 80)) == slice(0, 11)
