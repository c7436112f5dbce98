"""Pascal VOC 2012 and Pascal Context."""

import errno
import os

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from possam.data.preparation import PREPARATIONS, pictures
from tests.layouts import make_pascal_context

# The 59 classes of Pascal Context among its 459, by the dataset's list.
FREQUENT = [
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158),
    *(159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366),
    *(368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
]


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_voc_with_and_without_background(fresh):
    root = fresh("pascal_voc")
    PREPARATIONS["pascal_voc"].run(root)
    for short, folder, first in (("train", "training", 1), ("val", "validation", 501)):
        names = [f"2007_{number:06d}" for number in range(first, first + 2)]
        assert sorted(p.stem for p in (root / "pascal_voc_d2/images" / folder).iterdir()) == names, short
        for name in names:
            before = read(root / "VOCdevkit/VOC2012/SegmentationClass" / f"{name}.png").astype(int)
            assert {0, 255} < set(before.ravel().tolist())
            with21 = read(root / "pascal_voc_d2/annotations_pascal21" / folder / f"{name}.png")
            with20 = read(root / "pascal_voc_d2/annotations_pascal20" / folder / f"{name}.png")
            assert with21.dtype == with20.dtype == np.uint8
            assert np.array_equal(with21, before)
            assert np.array_equal(with20, np.where((before == 0) | (before == 255), 255, before - 1))


def test_images_are_links_or_else_copies(fresh, monkeypatch):
    root = fresh("pascal_voc")
    source = root / "VOCdevkit/VOC2012/JPEGImages/2007_000501.jpg"
    target = root / "pascal_voc_d2/images/validation/2007_000501.jpg"
    PREPARATIONS["pascal_voc"].run(root)
    assert os.path.samefile(source, target)
    target.unlink()

    def refuse(*_):
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(pictures.os, "link", refuse)
    assert PREPARATIONS["pascal_voc"].run(root).written == 1
    assert target.read_bytes() == source.read_bytes() and not os.path.samefile(source, target)


def test_context_59_and_459(fresh):
    root = fresh("pascal_context_59")
    assert len(FREQUENT) == 59
    PREPARATIONS["pascal_context_59"].run(root)
    PREPARATIONS["pascal_context_459"].run(root)
    for folder, first in (("training", 1), ("validation", 501)):
        for name in (f"2008_{number:06d}" for number in range(first, first + 2)):
            before = loadmat(root / "VOCdevkit/VOC2010/trainval" / f"{name}.mat")["LabelMap"].astype(int)
            small = read(root / "pascal_ctx_d2/annotations_ctx59" / folder / f"{name}.png")
            large = read(root / "pascal_ctx_d2/annotations_ctx459" / folder / f"{name}.tif")
            assert (small.dtype, large.dtype) == (np.uint8, np.uint16)
            for (y, x), value in np.ndenumerate(before):
                assert large[y, x] == (value - 1 if value else 65535)
                assert small[y, x] == (FREQUENT.index(value) if value in FREQUENT else 255)
            assert (root / "pascal_ctx_d2/images" / folder / f"{name}.jpg").is_file()
    assert 458 in large or 458 in read(root / "pascal_ctx_d2/annotations_ctx459/training/2008_000002.tif")


def test_the_split_is_the_merged_json_where_it_is_there(tmp_path):
    make_pascal_context(tmp_path, images=3, merged_json=True)
    PREPARATIONS["pascal_context_59"].run(tmp_path)
    folder = tmp_path / "pascal_ctx_d2/annotations_ctx59/validation"
    assert sorted(p.stem for p in folder.iterdir()) == ["2008_000501", "2008_000502"]
    merged = tmp_path / "VOCdevkit/VOC2010/trainval_merged.json"
    merged.write_text('{"images": [{"name": "x"}]}')
    with pytest.raises(ValueError, match="trainval_merged.json is not the file of the Detail API .*; remove it"):
        PREPARATIONS["pascal_context_59"].run(tmp_path)
    merged.unlink()
    PREPARATIONS["pascal_context_59"].run(tmp_path)
    assert (folder / "2008_000503.png").is_file()


def test_wrong_mats_are_named(fresh):
    root = fresh("pascal_context_459")
    path = root / "VOCdevkit/VOC2010/trainval/2008_000501.mat"
    for content, message in (
        ({"LabelMap": np.full((24, 32), 460, dtype=np.uint16)}, r"has the values \[460\], but 1 … 459, and 0"),
        ({"Other": np.zeros((24, 32))}, "holds no LabelMap that can be read"),
        ({"LabelMap": np.zeros((24, 32))}, "LabelMap is float64 of shape"),
    ):
        savemat(path, content)
        with pytest.raises(ValueError, match=rf"{path}:? {message}"):
            PREPARATIONS["pascal_context_459"].run(root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files are missing: \[.*2008_000501.mat\]. Download"):
        PREPARATIONS["pascal_context_459"].run(root)


def test_an_empty_list_is_named(fresh):
    root = fresh("pascal_voc")
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(FileNotFoundError, match="val.txt names no image. Download"):
        PREPARATIONS["pascal_voc"].run(root)
