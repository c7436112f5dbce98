from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import load_semantic, register_semantic

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def roots(tmp_path) -> dict[str, Path]:
    """Photos b.jpg and city/a.jpg of 24×16 (width×height), and their label maps."""
    roots = {"image_root": tmp_path / "photos", "label_root": tmp_path / "labels"}
    for name in ("b", "city/a"):
        for root, suffix in ((roots["image_root"], ".jpg"), (roots["label_root"], ".png")):
            path = root / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((16, 24), dtype=np.uint8)).save(path)
    return roots


def test_images_and_label_maps_are_paired_by_relative_path(roots):
    (roots["image_root"] / "readme.txt").write_text("not an image")
    (roots["image_root"] / "._b.jpg").write_text("left by an archive")
    records = load_semantic(**roots)
    assert records == [
        {
            "file_name": str(roots["image_root"] / f"{name}.jpg"),
            "image_id": name,
            "height": 16,
            "width": 24,
            "sem_seg_file_name": str(roots["label_root"] / f"{name}.png"),
        }
        for name in ("b", "city/a")
    ]


def test_linked_folders_are_read_and_circles_are_not(roots, tmp_path):
    for root in roots.values():
        (root / "city").rename(tmp_path / f"{root.name}-elsewhere")
        (root / "city").symlink_to(tmp_path / f"{root.name}-elsewhere")
        (root / "city/back").symlink_to(root)
    assert [record["image_id"] for record in load_semantic(**roots)] == ["b", "city/a"]


def test_sizes_are_those_of_the_upright_image(roots):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to view
    Image.new("RGB", (16, 24)).save(roots["image_root"] / "b.jpg", exif=exif)
    assert [(record["height"], record["width"]) for record in load_semantic(**roots)] == [(16, 24), (16, 24)]


def test_what_is_missing_is_named(roots):
    (roots["label_root"] / "city/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 images have no label map .*city/a.jpg.*\. Prepare it"):
        load_semantic(**roots, fix="Prepare it.")
    (roots["label_root"] / "city/a.png").write_bytes(b"")
    (roots["image_root"] / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 label maps have no image .*b.png.*Check image_root"):
        load_semantic(**roots)
    with pytest.raises(FileNotFoundError, match=r"labels has no file whose name ends with '.tif'. Prepare it"):
        load_semantic(**roots, label_suffix=".tif", fix="Prepare it.")
    with pytest.raises(FileNotFoundError, match=r"folder .*/none does not exist. Prepare it"):
        load_semantic(**{**roots, "label_root": roots["label_root"] / "none"}, fix="Prepare it.")


def test_images_that_do_not_decode_are_named(roots):
    (roots["image_root"] / "b.jpg").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"image .*b.jpg does not decode"):
        load_semantic(**roots)


def test_registration(roots, vocabulary):
    register_semantic("flats", **roots, vocabulary=vocabulary, ignore_label=3)
    register_semantic("flats", **roots, vocabulary=vocabulary, ignore_label=3)
    assert [record["image_id"] for record in DatasetCatalog.get("flats")] == ["b", "city/a"]
    metadata = MetadataCatalog.get("flats")
    assert metadata.sem_seg_root == str(roots["label_root"])
    assert (metadata.vocabulary, metadata.tasks, metadata.ignore_label) == (vocabulary, ("semantic",), 3)
