"""Masks restored in parts are those restored as a whole, and stay within their bounds."""

import pytest
import torch

from possam.inference import MaskGrid
from possam.inference.mask_grid import Tile
from tests.reference import merging

SIZES = [
    ((64, 96), (50, 90), (123, 77)),
    ((64, 96), (64, 96), (64, 96)),
    ((64, 96), (33, 96), (12, 250)),
    ((16, 24), (16, 24), (100, 9)),
    ((8, 12), (7, 11), (70, 11)),
]


def logits(queries=7, height=16, width=24, seed=0):
    return torch.randn(queries, height, width, generator=torch.Generator().manual_seed(seed)) * 5


@pytest.mark.parametrize("sizes", SIZES)
def test_masks_are_resized_cropped_and_resized(sizes):
    padded, image, output = sizes
    grid = MaskGrid(logits(), padded_size=padded, image_size=image, output_size=output)
    got = grid.restore()
    assert got.shape == (7, *output) and got.dtype == torch.float32
    torch.testing.assert_close(got, merging.restore(logits(), *sizes), atol=1e-5, rtol=0)
    torch.testing.assert_close(grid.restore([4, 1]), got[[4, 1]], atol=1e-5, rtol=0)
    assert torch.equal(grid.inside(), got > 0)


@pytest.mark.parametrize("sizes", SIZES)
def test_tiles_cover_the_output_once_and_stay_within_their_bounds(sizes):
    padded, image, output = sizes
    grid = MaskGrid(logits(), padded_size=padded, image_size=image, output_size=output)
    whole, covered = grid.restore(), torch.zeros(output, dtype=torch.int)
    low, high = grid.bounds
    assert low.shape == high.shape == (7, len(grid.tiles))
    for index, tile in enumerate(grid.tiles):
        covered[tile] += 1
        part = grid.restore(tile=tile)
        assert part[0].numel() == tile.area
        torch.testing.assert_close(part, whole[(slice(None), *tile)], atol=1e-5, rtol=0)
        assert (part.amin(dim=(1, 2)) >= low[:, index] - 1e-5).all()
        assert (part.amax(dim=(1, 2)) <= high[:, index] + 1e-5).all()
    assert (covered == 1).all()


def test_bounds_are_those_of_the_cells_and_no_wider():
    cells = torch.zeros(1, 16, 16)
    cells[0, 0, 0], cells[0, 15, 15] = 3.0, -2.0
    grid = MaskGrid(cells, output_size=(96, 96))
    low, high = (bound.view(4, 4) for bound in grid.bounds)
    assert high[0, 0] == 3 and low[3, 3] == -2
    assert high.flatten()[1:].abs().max() == 0 and low.flatten()[:-1].abs().max() == 0


def test_an_object_comes_back_where_it_was_in_the_image():
    # The upper left quarter of a 40×60 image in a 64×64 input, seen at stride 4, asked for at 80×120.
    cells = torch.full((1, 16, 16), -1.0)
    cells[0, :5, : 30 // 4] = 1.0
    got = MaskGrid(cells, padded_size=(64, 64), image_size=(40, 60), output_size=(80, 120)).inside()[0]
    assert got[:38, :54].all() and not got[44:].any() and not got[:, 62:].any()


def test_half_precision_is_restored_in_float32_also_under_autocast():
    half = logits(3, 8, 8).half()
    with torch.autocast("cpu", torch.bfloat16):
        got = MaskGrid(half).restore()
        bright = MaskGrid(half, output_size=(20, 30)).restore(tile=Tile(slice(3, 9), slice(5, 8)))
    assert torch.equal(got, half.float())
    torch.testing.assert_close(bright, merging.restore(half.float(), (8, 8), (8, 8), (20, 30))[:, 3:9, 5:8])


def test_no_mask_is_restored_to_none():
    grid = MaskGrid(logits(0, 8, 8), output_size=(4, 5))
    assert grid.restore().shape == grid.inside().shape == (0, 4, 5)


def test_masks_move_to_another_device_and_stay_where_they_are():
    grid = MaskGrid(logits(), padded_size=(64, 96), image_size=(50, 90), output_size=(30, 40))
    assert grid.to(torch.device("cpu")) is grid
    moved = grid.to(torch.device("meta"))
    assert moved.device.type == "meta" and moved.size == (30, 40) and moved.tiles == [Tile(slice(0, 30), slice(0, 40))]


@pytest.mark.parametrize(
    ("shape", "sizes", "message"),
    [
        ((8, 8), ((8, 8), (8, 8), (8, 8)), "Q×h×w"),
        ((1, 8, 8), ((8, 8), (9, 8), (8, 8)), "cannot lie in an input"),
        ((1, 8, 8), ((8, 8), (8, 8), (0, 8)), "at least 1×1"),
    ],
)
def test_impossible_sizes_are_refused(shape, sizes, message):
    padded, image, output = sizes
    with pytest.raises(ValueError, match=message):
        MaskGrid(torch.zeros(shape), padded_size=padded, image_size=image, output_size=output)
