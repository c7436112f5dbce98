"""Pictures of any bytes: H×W×3 uint8, or a ValueError that names the file."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from possam.data.pictures import read_picture
from tests.fuzz.mutations import OTHERS, cases, damaged, read
from tests.fuzz.test_annotation_files import LIARS

FORMATS = (
    ("RGB", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("RGB", "TIFF"), ("F", "TIFF"),
    ("RGB", "WEBP"), ("P", "GIF"), ("RGB", "BMP"), ("RGB", "PPM"), ("CMYK", "JPEG"), ("RGB", "PCX"), ("RGB", "TGA"),
)  # fmt: skip


def whole(mode, format):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("L" if mode in ("I;16", "F") else mode).convert(mode)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    buffer = io.BytesIO()
    image.save(buffer, format, **({"exif": exif} if format in ("JPEG", "PNG", "TIFF", "WEBP") else {}))
    return buffer.getvalue()


WHOLE = [whole(*kind) for kind in FORMATS]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_whole_files_are_read(place, kind):
    (place / "whole").write_bytes(whole(*kind))
    assert read_picture(place / "whole").size == 24 * 20 * 3


@cases(900)
@given(content=st.sampled_from(WHOLE).flatmap(lambda content: damaged(content, OTHERS + LIARS)))
def test_a_picture_of_any_bytes(place, content):
    path = place / "one.jpg"
    path.write_bytes(content)
    picture = read(lambda: read_picture(path), path)
    assert picture is None or (picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3)
