import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from possam.data import read_rgb
from possam.data.doctor.pictures import Picture as Checked
from possam.data.pictures import is_turned, read_picture, to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def reopened(image, **options):
    """The image after a trip through a file of its own format."""
    buffer = io.BytesIO()
    image.save(buffer, **options)
    buffer.seek(0)
    return Image.open(buffer)


def test_rgb_comes_through_unchanged_from_array_pil_and_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for picture in (RGB, Image.fromarray(RGB), tmp_path / "a.png", str(tmp_path / "a.png"), "~/a.png"):
        assert np.array_equal(to_rgb(picture), RGB)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees counterclockwise
    turned = reopened(Image.fromarray(RGB), format="PNG", exif=exif)
    assert np.array_equal(to_rgb(turned), np.rot90(RGB, k=-1))


def test_grays_of_8_and_16_bits_have_the_same_brightness():
    gray = RGB[..., 0]
    wide = reopened(Image.fromarray(gray.astype(np.uint16) * 257), format="PNG")
    assert wide.mode.startswith("I")
    expected = np.repeat(gray[..., None], 3, axis=2)
    for picture in (gray, Image.fromarray(gray), wide):
        assert np.array_equal(to_rgb(picture), expected)


def test_a_dark_16_bit_picture_stays_dark_and_what_fits_no_range_is_stretched():
    dark = Image.fromarray(np.array([[0, 257]], dtype=np.uint16))
    assert to_rgb(dark)[0, :, 0].tolist() == [0, 1]
    for dtype in (np.float32, np.int32):
        wide = Image.fromarray(np.array([[-1000, 0, 1000]], dtype=dtype))
        assert to_rgb(wide)[0, :, 0].tolist() == [0, 128, 255]
    twelve_bits = Image.fromarray(np.array([[0, 4095]], dtype=np.int32))
    assert to_rgb(twelve_bits)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("highest", [255, 90])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_a_gray_is_as_bright_in_every_type_and_by_every_way(tmp_path, dtype, highest):
    gray = np.linspace(0, highest, 54).round().reshape(6, 9)
    path = tmp_path / "gray.tif"
    if dtype == np.int16:  # Pillow reads, but does not write it: the 16-bit TIFF with its samples declared as signed
        Image.fromarray(gray.astype(np.uint16)).save(path, tiffinfo={339: 2})
    else:
        Image.fromarray(gray.astype(dtype)).save(path)
    with Image.open(path) as opened:
        assert opened.mode == ("F" if dtype == np.float32 else "I")
        ways = [to_rgb(path), read_rgb(str(path)), to_rgb(opened)]
    for found in ways:
        assert np.array_equal(found, np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2))


def test_floats_up_to_one_are_as_bright_as_bytes():
    gray = np.array([[0.0, 0.5, 0.2]], np.float32)
    assert to_rgb(Image.fromarray(gray))[0, :, 0].tolist() == [0, 128, 51]
    assert to_rgb(Image.fromarray(np.full((2, 2), 0.5, np.float32))).tolist() == np.full((2, 2, 3), 128).tolist()


def photo(orientation, tag, kind, count, data):
    """A JPEG, 12×8 (width×height), with an EXIF block of two tags, little-endian; `data` of over 4 bytes follow it."""
    entries, far = b"", b""
    for key, type_, number, value in sorted([(0x112, 3, 1, struct.pack("<H", orientation)), (tag, kind, count, data)]):
        inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", 8 + 2 + 24 + 4 + len(far))
        far += value if len(value) > 4 else b""
        entries += struct.pack("<HHI", key, type_, number) + inline
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + bytes(4) + far
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.arange(12, dtype=np.uint8)[None] * 20, 8, axis=0)).save(buffer, "JPEG")
    plain = buffer.getvalue()
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]


@pytest.mark.parametrize(
    "tag",
    [
        (0x11A, 10, 1, struct.pack("<ii", -1, 0)),  # XResolution as a signed rational, -1/0
        (0x2BC, 2, 8, b"<x/>abc\0"),  # XMP as text
        (0x13B, 5, 1, struct.pack("<II", 1, 2)),  # Artist as a rational
        (0x128, 11, 1, struct.pack("<f", 2.0)),  # ResolutionUnit as a float
        (0x8769, 4, 1, struct.pack("<I", 10**6)),  # the EXIF directory outside of the file
        (0x9999, 77, 1, b"1234"),  # neither the tag nor its type is known
        (0x11A, 5, 9, b"12345678"),  # fewer values than are counted
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of some
def test_only_the_orientation_of_a_photos_tags_matters(tmp_path, tag):
    """Every reader turns the photo, and so does who reads its size alone."""
    path = tmp_path / "p.jpg"
    path.write_bytes(photo(6, *tag))
    expected = np.rot90(np.asarray(Image.open(path).convert("RGB")), k=-1)
    assert expected.shape == (12, 8, 3)
    with Image.open(path) as opened, Image.open(path) as header:
        assert is_turned(header)
        ways = [to_rgb(path), to_rgb(opened), read_rgb(str(path)), Checked(path, "image", "").pixels]
    assert all(np.array_equal(found, expected) for found in ways)
    assert Checked(path, "image", "").shown == (8, 12)


def test_metadata_that_cannot_be_read_leave_a_photo_as_it_is(tmp_path):
    path = tmp_path / "p.jpg"
    path.write_bytes(photo(6, 0x128, 3, 1, b"\2\0").replace(b"Exif\0\0II*", b"Exif\0\0??*"))
    assert to_rgb(path).shape == read_rgb(str(path)).shape == (8, 12, 3)
    assert Checked(path, "image", "").shown == (12, 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_every_format_is_turned_alike_by_every_reader(tmp_path, format, orientation):
    """TIFFs, which Pillow turns itself, too, and with text that it takes for bytes."""
    path, exif, tags = tmp_path / "a.picture", Image.Exif(), ImageFileDirectory_v2()
    exif[0x0112] = tags[0x0112] = orientation
    tags.tagtype[700], tags[700] = 2, "<x/>"
    more = {"tiffinfo": tags} if format == "TIFF" else {"exif": exif}
    Image.fromarray(RGB).save(path, format, **more)
    rgb = to_rgb(path)
    upright = {1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1)}
    upright |= {6: np.rot90(RGB, -1), 7: RGB[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(RGB, 1)}
    if format in ("PNG", "TIFF"):
        assert np.array_equal(rgb, upright[orientation])
    assert rgb.shape == upright[orientation].shape
    with Image.open(path) as opened:
        assert all(np.array_equal(rgb, other) for other in (to_rgb(opened), read_rgb(str(path))))
    doctor = Checked(path, "image", "")
    assert doctor.shown == (rgb.shape[1], rgb.shape[0]) and np.array_equal(doctor.pixels, rgb)
    with Image.open(path) as header:
        width, height = header.size[::-1] if is_turned(header) else header.size
    assert rgb.shape == (height, width, 3)


def test_a_pil_image_that_cannot_be_used_is_a_value_error(tmp_path):
    for size in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match=f"no pixel: its size is {size[0]}×{size[1]}"):
            to_rgb(Image.new("RGB", size))
    with pytest.raises(ValueError, match="PIL image cannot be read.*not finite"):
        to_rgb(Image.fromarray(np.array([[np.nan]], np.float32)))
    whole = io.BytesIO()
    Image.fromarray(RGB.repeat(40, 0).repeat(40, 1)).save(whole, format="JPEG")
    with pytest.raises(ValueError, match="PIL image cannot be read"):
        to_rgb(Image.open(io.BytesIO(whole.getvalue()[: len(whole.getvalue()) // 2])))


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
    assert (to_rgb(Image.new("LA", (2, 1), (200, 128)).convert("La")) == 227).all()  # premultiplied alpha, on white
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
    with pytest.raises(ValueError, match="a PIL image, an array or a tensor, but got list"):
        to_rgb([1, 2])
    with pytest.raises(ValueError, match="at least one pixel"):
        to_rgb(np.zeros((0, 3, 3), np.uint8))


@pytest.mark.parametrize("content", [b"P6", b"P6 60000 60000 255\n", b"P5 2 x 255\n", b"BM" + bytes(60)])
def test_what_pillow_does_not_call_damage_is_named(tmp_path, content):
    (tmp_path / "odd.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.jpg cannot be read as an image"):
        read_picture(tmp_path / "odd.jpg")


def test_an_address_is_told_from_a_path():
    with pytest.raises(FileNotFoundError, match="only http and https are opened: download it"):
        to_rgb(Path("s3://bucket/a.jpg"))
    with pytest.raises(FileNotFoundError, match="check the path"):
        to_rgb("c:/a.jpg")


def test_a_pipe_is_named_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="pipe.png is no regular file, but a pipe or a device"):
        to_rgb(tmp_path / "pipe.png")


def test_bytes_and_open_files(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for given in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        assert np.array_equal(to_rgb(given), RGB)
    with open(tmp_path / "a.png", "rb") as file:
        assert np.array_equal(to_rgb(file), RGB)
    with pytest.raises(ValueError, match="must be opened for reading bytes"):
        to_rgb(io.StringIO("text"))
    unreadable = r"^the bytes given cannot be read as an image \(the format is none that Pillow reads\); give"
    with pytest.raises(ValueError, match=unreadable):
        to_rgb(b"text")


def test_tensors():
    tensor = torch.from_numpy(RGB).permute(2, 0, 1)
    assert np.array_equal(to_rgb(tensor), RGB)
    assert np.array_equal(to_rgb((tensor / 255).requires_grad_()), RGB)
    assert np.array_equal(to_rgb(tensor.double() / 255), RGB)
    gray = to_rgb(tensor[:1])
    assert gray.shape == RGB.shape and (gray == RGB[..., :1]).all()
    for wrong in (tensor.permute(1, 2, 0), tensor[None], tensor.long(), tensor[0]):
        with pytest.raises(ValueError, match=r"3×H×W RGB or 1×H×W gray, uint8 or floating point in \[0, 1\], but got"):
            to_rgb(wrong)
    for wrong in (tensor.float(), tensor / 255 - 0.5, torch.full((3, 2, 2), torch.nan)):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\], but its values go from"):
            to_rgb(wrong)
    with pytest.raises(ValueError, match="at least one pixel"):
        to_rgb(torch.zeros(3, 0, 4))
