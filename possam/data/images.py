"""Paths of annotated images, for each way in which annotation files name them, and sizes of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from possam.data.checks import require_keys
from possam.data.pictures import decoding, is_turned
from possam.utils.folders import walk

__all__ = ["IMAGE_NAMES", "ImageFinder", "picture_sizes", "refuse"]

IMAGE_NAMES = ("file_name", "id", "png", "coco_url")
# Headers of 118,000 images are read while the disk answers others.
_THREADS = 16


class ImageFinder:
    """Paths of images under one folder. The files need not be there: who wants them checks (`check_files`)."""

    def __init__(self, *, root: str | Path | None, names: str = "file_name", suffix: str = ".jpg") -> None:
        """
        Args:
            root: the folder, or None where only the names matter.
            names: one of `IMAGE_NAMES`: the image is named by its "file_name", relative to the folder; by its "id",
                which is its name without the suffix, in whichever subfolder; by the stem of its panoptic "png"; or by
                its "coco_url", whose last two parts are subfolder and name.
            suffix: end of the images' names, where the annotation does not give it.
        """
        assert names in IMAGE_NAMES, names
        self.root = Path(root or "")
        self.names = names if root else "file_name"
        self.suffix = suffix

    def path(self, image: Mapping[str, Any], annotation: Mapping[str, Any] | None = None) -> str:
        """
        Args:
            image: an entry of the JSON's ``images``.
            annotation: its panoptic annotation, which "png" needs.

        Raises:
            ValueError: a key is missing; several subfolders have an image of that id; or one cannot be listed.
        """
        if self.names == "id":
            return self._of_id(str(image["id"]))
        if self.names == "png":
            assert annotation is not None
            return str(self.root / f"{PurePosixPath(annotation['file_name']).with_suffix('')}{self.suffix}")
        if self.names == "coco_url":
            require_keys(image, ("coco_url",), f"image {image['id']}", "LVIS")
            return str(self.root.joinpath(*image["coco_url"].split("/")[-2:]))
        return str(self.root / image["file_name"])

    def _of_id(self, image_id: str) -> str:
        first, *others = self._by_id.get(image_id) or [str(self.root / "*" / f"{image_id}{self.suffix}")]
        for other in others:
            if not os.path.samefile(first, other):
                raise ValueError(f"image {image_id} is both {first} and {other}; take one of them out of {self.root}.")
        return first

    @cached_property
    def _by_id(self) -> dict[str, list[str]]:
        # Through links as well, since a large dataset's folders often are ones.
        paths: dict[str, list[str]] = {}
        for folder, names in walk(self.root, refused=refuse):
            for name in (name for name in names if name.endswith(self.suffix)):
                paths.setdefault(name.removesuffix(self.suffix), []).append(str(folder / name))
        return paths


def refuse(error: OSError) -> None:
    """ValueError for a folder that cannot be listed: the way of `possam.utils.folders.walk` where every file counts."""
    if not isinstance(error, FileNotFoundError):  # of a root that is not there, every image is reported missing
        raise ValueError(f"{error.filename} cannot be listed ({error.strerror}); change its permissions.") from error


def picture_sizes(paths: Iterable[Path]) -> list[tuple[int, int]]:
    """(height, width) in pixels of images by their headers, turned as their EXIF orientation says.

    Raises:
        FileNotFoundError: an image is not there.
        ValueError: one does not decode; names it.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_size, paths))


def _size(path: Path) -> tuple[int, int]:
    with decoding(f"image {path}", missing="check image_root", fix="copy or download it again"):
        with Image.open(path) as picture:
            width, height = picture.size
            return (width, height) if is_turned(picture) else (height, width)
