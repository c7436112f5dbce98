"""ADE20K's full release."""

import numpy as np
import pytest
from PIL import Image

from possam.data.preparation import PREPARATIONS
from possam.data.preparation.ade20k_full import shrunk_size
from possam.vocabulary import Vocabulary
from tests.layouts import make_ade20k_full

ROOT = "ADE20K_2021_17_01"


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_ids_of_the_release_become_classes(fresh):
    root = fresh("ade20k_full") / ROOT
    PREPARATIONS["ade20k_full"].run(root.parent)
    ids = [category.dataset_id for category in Vocabulary.load("ade20k_847").categories]
    seen = set()
    for source in sorted((root / "images/ADE").rglob("*_seg.png")):
        name, split = source.name.removesuffix("_seg.png"), source.parts[-4]
        colors = read(source).astype(int)
        after = read(root / "annotations_detectron2" / split / f"{name}.tif")
        assert after.dtype == np.uint16 and after.shape == colors.shape[:2]
        for (y, x), value in np.ndenumerate(after):
            number = colors[y, x, 0] // 10 * 256 + colors[y, x, 1]
            assert value == (ids.index(number) if number in ids else 65535)
        seen |= set(np.unique(after).tolist())
        # Encoded anew, as the field does, so no more than near.
        picture, photo = read(root / "images_detectron2" / split / f"{name}.jpg"), read(source.with_name(f"{name}.jpg"))
        assert picture.shape == photo.shape and np.abs(picture.astype(int) - photo).mean() < 20
    assert 65535 in seen and ids.index(2978) == 0 and {0, 1} <= seen


def test_large_images_are_shrunk(tmp_path):
    make_ade20k_full(tmp_path, images=1, size=(520, 610))
    PREPARATIONS["ade20k_full"].run(tmp_path, splits=["val"])
    label_map = read(tmp_path / ROOT / "annotations_detectron2/validation/ADE_val_00000001.tif")
    assert label_map.shape == (512, 601)
    assert read(tmp_path / ROOT / "images_detectron2/validation/ADE_val_00000001.jpg").shape == (512, 601, 3)
    assert PREPARATIONS["ade20k_full"].run(tmp_path, splits=["val"]).written == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((512, 683), (512, 683)),
        ((600, 600), (512, 512)),
        ((1000, 700), (731, 512)),
        ((700, 1000), (512, 731)),
        ((400, 2000), (400, 2000)),
        ((513, 2000), (512, 1996)),
    ],
)
def test_the_short_side_is_512_at_most(before, after):
    assert shrunk_size(*before) == after


def test_the_index_is_never_opened(fresh):
    root = fresh("ade20k_full")
    (root / ROOT / "index_ade20k.pkl").unlink()
    assert PREPARATIONS["ade20k_full"].run(root).written == 8


def test_a_missing_or_unfit_segmentation_is_named(fresh):
    root = fresh("ade20k_full")
    path = next((root / ROOT).rglob("ADE_val_00000001_seg.png"))
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf"{path} has the size \(9, 9\)"):
        PREPARATIONS["ade20k_full"].run(root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files are missing: \[.*ADE_val_00000001_seg.png\]. Register"):
        PREPARATIONS["ade20k_full"].run(root)
