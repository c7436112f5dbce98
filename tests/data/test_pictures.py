import io

import numpy as np
import pytest
from PIL import Image

from possam.data.pictures import read_picture, to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def reopened(image, **options):
    """The image after a trip through a file of its own format."""
    buffer = io.BytesIO()
    image.save(buffer, **options)
    buffer.seek(0)
    return Image.open(buffer)


def test_rgb_comes_through_unchanged_from_array_pil_and_file(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for picture in (RGB, Image.fromarray(RGB), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(to_rgb(picture), RGB)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees counterclockwise
    turned = reopened(Image.fromarray(RGB), format="PNG", exif=exif)
    assert np.array_equal(to_rgb(turned), np.rot90(RGB, k=-1))


def test_greys_of_8_and_16_bits_have_the_same_brightness():
    grey = RGB[..., 0]
    wide = reopened(Image.fromarray(grey.astype(np.uint16) * 257), format="PNG")
    assert wide.mode.startswith("I")
    expected = np.repeat(grey[..., None], 3, axis=2)
    for picture in (grey, Image.fromarray(grey), wide):
        assert np.array_equal(to_rgb(picture), expected)


def test_a_dark_16_bit_picture_stays_dark_and_floats_are_stretched():
    dark = Image.fromarray(np.array([[0, 257]], dtype=np.uint16))
    assert to_rgb(dark)[0, :, 0].tolist() == [0, 1]
    floats = Image.fromarray(np.array([[-1.0, 0.0, 1.0]], dtype=np.float32))
    assert to_rgb(floats)[0, :, 0].tolist() == [0, 128, 255]


def test_transparency_is_laid_on_white():
    rgba = np.dstack([RGB, np.zeros((6, 9), np.uint8)])
    rgba[0, 0, 3] = 255
    result = to_rgb(Image.fromarray(rgba))
    assert np.array_equal(result[0, 0], RGB[0, 0]) and (result[1:] == 255).all()


def test_cmyk_palettes_and_a_single_pixel_become_rgb():
    for mode in ("CMYK", "P", "1", "YCbCr", "LA"):
        result = to_rgb(Image.fromarray(RGB).convert(mode if mode != "LA" else "L").convert(mode))
        assert result.shape == (6, 9, 3) and result.dtype == np.uint8
    assert np.abs(to_rgb(Image.fromarray(RGB).convert("CMYK")).astype(int) - RGB).max() <= 2
    assert to_rgb(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)


@pytest.mark.parametrize("array", [RGB.astype(float), RGB[None], np.zeros((4, 4, 4), np.uint8)])
def test_arrays_of_another_kind_are_refused(array):
    with pytest.raises(ValueError, match="H×W×3 uint8 RGB"):
        to_rgb(array)


def test_what_is_no_picture_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image at .*none\.jpg"):
        read_picture(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="is a folder"):
        read_picture(tmp_path)
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.jpg cannot be read as an image"):
        read_picture(tmp_path / "text.jpg")
    whole = io.BytesIO()
    Image.fromarray(RGB.repeat(40, 0).repeat(40, 1)).save(whole, format="JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read as an image"):
        read_picture(tmp_path / "cut.jpg")
    with pytest.raises(ValueError, match="must be a path, a PIL image or an array, but got list"):
        to_rgb([1, 2])
    with pytest.raises(ValueError, match="at least one pixel"):
        to_rgb(np.zeros((0, 3, 3), np.uint8))


@pytest.mark.parametrize("content", [b"P6", b"P6 60000 60000 255\n", b"P5 2 x 255\n", b"BM" + bytes(60)])
def test_what_pillow_does_not_call_damage_is_named(tmp_path, content):
    (tmp_path / "odd.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.jpg cannot be read as an image"):
        read_picture(tmp_path / "odd.jpg")
