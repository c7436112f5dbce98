import errno
import os

import pytest

from possam.data.images import ImageFinder


def refuse_listing(folder, monkeypatch):
    """A folder that cannot be listed, also where the tests run as root."""
    folder.mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_each_way_of_naming_images(tmp_path):
    (tmp_path / "aachen").mkdir()
    (tmp_path / "aachen/aachen_0_left.png").touch()
    image = {"id": "aachen_0", "file_name": "sub/x.jpg", "coco_url": "http://images.org/val2017/7.jpg"}
    annotation = {"file_name": "a.b.png"}
    for names, expected in {
        "file_name": "sub/x.jpg",
        "id": "aachen/aachen_0_left.png",
        "png": "a.b_left.png",
        "coco_url": "val2017/7.jpg",
    }.items():
        finder = ImageFinder(root=tmp_path, names=names, suffix="_left.png")
        assert finder.path(image, annotation) == str(tmp_path / expected)


def test_an_image_that_no_subfolder_has_is_still_named(tmp_path):
    finder = ImageFinder(root=tmp_path, names="id", suffix=".png")
    assert finder.path({"id": "munster_1"}) == str(tmp_path / "*" / "munster_1.png")


def test_an_id_with_two_images_is_refused_where_it_is_asked_for(tmp_path):
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "7.png").write_text(folder)
    (tmp_path / "val" / "8.png").touch()
    (tmp_path / "val" / "back").symlink_to(tmp_path)  # a circle
    (tmp_path / "more").symlink_to(tmp_path / "val")  # the same file twice is one image
    finder = ImageFinder(root=tmp_path, names="id", suffix=".png")
    assert finder.path({"id": "8"}).endswith("8.png")
    with pytest.raises(ValueError, match=r"image 7 is both .*7\.png and .*7\.png; take one"):
        finder.path({"id": 7})


def test_a_subfolder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    refuse_listing(tmp_path / "locked", monkeypatch)
    with pytest.raises(ValueError, match=r"locked cannot be listed \(Permission denied\)"):
        ImageFinder(root=tmp_path, names="id").path({"id": 7})


def test_an_image_without_its_url(tmp_path):
    with pytest.raises(ValueError, match=r"image 4: the keys \['coco_url'\] are missing"):
        ImageFinder(root=tmp_path, names="coco_url").path({"id": 4})


def test_a_folder_that_is_a_link_is_searched(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x_leftImg8bit.png").touch()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "city").symlink_to(tmp_path / "elsewhere")
    finder = ImageFinder(root=tmp_path / "images", names="id", suffix="_leftImg8bit.png")
    assert finder.path({"id": "x"}) == str(tmp_path / "images" / "city" / "x_leftImg8bit.png")
