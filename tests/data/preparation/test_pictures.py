"""Whole and damaged pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from possam.data.preparation.pictures import apply_table, is_whole, read_pixels, write_picture

PIXELS = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)


@pytest.mark.parametrize(("suffix", "mode"), [(".png", "L"), (".tif", "I;16"), (".jpg", "L")])
def test_written_pictures_are_whole_and_cut_ones_are_not(tmp_path, suffix, mode):
    path = tmp_path / f"map{suffix}"
    pixels = PIXELS if mode == "I;16" else PIXELS.astype(np.uint8)
    assert write_picture(path, pixels) == 1
    if suffix != ".jpg":
        assert np.array_equal(read_pixels(path, (mode,)), pixels)
        assert write_picture(path, pixels) == 0, "what is equal is left alone"
    assert is_whole(path, (24, 32), mode)
    assert not is_whole(path, (32, 24), mode) and not is_whole(path, (24, 32), "RGB")
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:length])
        assert not is_whole(path, (24, 32), mode), length
    assert not is_whole(tmp_path / "none.png", (24, 32), mode)


def test_a_table_with_holes():
    table = np.array([5, -1, 7], dtype=np.int32)
    assert apply_table(np.array([[0, 2]], dtype=np.uint8), table, Path("x.png"), "0 and 2").tolist() == [[5, 7]]
    with pytest.raises(ValueError, match=r"x.png has the values \[1, 3, 255\], but 0 and 2 are expected"):
        apply_table(np.array([[0, 1, 255, 3, 1]], dtype=np.uint8), table, Path("x.png"), "0 and 2")


def test_palette_indices_stay(tmp_path):
    picture = Image.fromarray(np.array([[3, 200]], dtype=np.uint8))
    picture.putpalette([7] * 768)
    picture.save(tmp_path / "p.png")
    assert read_pixels(tmp_path / "p.png", ("L", "P")).tolist() == [[3, 200]]
