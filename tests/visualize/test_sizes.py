import numpy as np
import pytest

from possam.visualize.sizes import enlarge_image, enlarge_index, enlargement, shrink_image, shrink_index, shrunk_size


def test_one_pixel_survives_enlargement():
    index = np.zeros((9, 9), np.int32)
    index[4, 4] = 3
    large = enlarge_index(index, 4)
    assert (large[17:19, 17:19] == 3).all()
    assert 4 <= (large == 3).sum() <= 32


@pytest.mark.parametrize(("side", "factor"), [(1, 24), (24, 20), (128, 4), (479, 2), (480, 1), (8000, 1)])
def test_how_much_small_pictures_grow(side, factor):
    assert enlargement(np.zeros((1, side, 3), np.uint8)) == enlargement(np.zeros((side, 1, 3), np.uint8)) == factor


def test_enlarging_by_one_gives_a_copy():
    image = np.zeros((4, 5, 3), np.uint8)
    enlarge_image(image, 1)[:] = 9
    assert image.sum() == 0


def test_large_pictures_shrink_together():
    assert shrunk_size((3000, 4000), 1000) == (750, 1000) and shrunk_size((30, 40), 1000) == (30, 40)
    assert shrunk_size((1, 4000), 10) == (1, 10)
    index = np.arange(12).reshape(3, 4).repeat(100, 0).repeat(100, 1)
    image = (index * 20).astype(np.uint8)[..., None].repeat(3, 2)
    small = shrink_index(index, 40)
    assert small.shape == (30, 40) and set(np.unique(small)) == set(range(12))
    np.testing.assert_array_equal(shrink_image(image, 40)[..., 0], small * 20)
    assert shrink_image(image, 400) is image
