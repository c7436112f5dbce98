"""Semantic datasets: a folder of images and one of label maps, paired by their relative paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from possam.data.catalog import IGNORE_LABEL, register
from possam.data.images import picture_sizes, refuse
from possam.utils.files import expand_home
from possam.utils.folders import walk
from possam.utils.messages import few
from possam.vocabulary import Vocabulary

__all__ = ["TASKS", "label_path", "load_semantic", "register_semantic"]

TASKS = ("semantic",)


def register_semantic(
    name: str,
    *,
    image_root: str | Path,
    label_root: str | Path,
    vocabulary: Vocabulary,
    ignore_label: int = IGNORE_LABEL,
    image_suffix: str = ".jpg",
    label_suffix: str = ".png",
) -> None:
    """Make a semantic dataset known to the catalogs under `name`; its files are looked at when it is loaded.

    Args:
        name: name in ``DatasetCatalog`` and ``MetadataCatalog``.
        image_root, label_root, image_suffix, label_suffix: see `load_semantic`.
        vocabulary: the classes; the value of a label map's pixel is a position in it.
        ignore_label: the value of pixels without a class.

    Raises:
        ValueError: another dataset has this name already.
    """
    image_root, label_root = expand_home(image_root), expand_home(label_root)
    places = {
        "image_root": str(image_root),
        "sem_seg_root": str(label_root),
        "image_suffix": image_suffix,
        "label_suffix": label_suffix,
    }

    def load() -> list[dict[str, Any]]:
        return load_semantic(
            image_root=image_root, label_root=label_root, image_suffix=image_suffix, label_suffix=label_suffix
        )

    register(name, load, vocabulary=vocabulary, tasks=TASKS, places=places, ignore_label=ignore_label)


def load_semantic(
    *,
    image_root: str | Path,
    label_root: str | Path,
    image_suffix: str = ".jpg",
    label_suffix: str = ".png",
    fix: str = "",
) -> list[dict[str, Any]]:
    """Pair images and label maps.

    Args:
        image_root: folder of the images, in any subfolders.
        label_root: folder of the label maps: for ``a/b<image_suffix>`` there is ``a/b<label_suffix>``.
        image_suffix, label_suffix: ends of the names; other files are left alone.
        fix: what to do where files are missing.
    Returns:
        one dict an image, by name: ``file_name``, ``image_id`` (the relative path without its suffix), ``height``
        and ``width`` (from the picture's header, turned as its EXIF orientation says) and ``sem_seg_file_name``.

    Raises:
        FileNotFoundError: a folder is missing or empty, an image has no label map, or a label map has no image.
        ValueError: an image does not decode, or a subfolder cannot be listed; names it.
    """
    fix = fix or "Check image_root, label_root and the two suffixes."
    images = files_of(Path(image_root), image_suffix, fix)
    labels = files_of(Path(label_root), label_suffix, fix)
    lonely = sorted(str(images[key]) for key in images.keys() - labels.keys())
    if lonely:
        raise FileNotFoundError(
            f"{len(lonely)} images have no label map ({label_suffix}) under {label_root}: {few(lonely, 3)}. {fix}"
        )
    lonely = sorted(str(labels[key]) for key in labels.keys() - images.keys())
    if lonely:
        raise FileNotFoundError(
            f"{len(lonely)} label maps have no image ({image_suffix}) under {image_root}: {few(lonely, 3)}. {fix}"
        )
    keys = sorted(images)
    sizes = picture_sizes(images[key] for key in keys)
    return [
        {
            "file_name": str(images[key]),
            "image_id": key,
            "height": height,
            "width": width,
            "sem_seg_file_name": str(labels[key]),
        }
        for key, (height, width) in zip(keys, sizes, strict=True)
    ]


def label_path(
    record: Mapping[str, Any], *, image_root: str | Path, label_root: str | Path, image_suffix: str, label_suffix: str
) -> str:
    """Where the label map of a record's image lies."""
    relative = Path(record["file_name"]).relative_to(image_root).as_posix()
    return str(Path(label_root) / f"{relative.removesuffix(image_suffix)}{label_suffix}")


def files_of(root: Path, suffix: str, fix: str) -> dict[str, Path]:
    """Files under a folder, in linked subfolders too, by relative path without the suffix."""
    if not root.is_dir():
        raise FileNotFoundError(f"the folder {root} does not exist. {fix}")
    files = {
        (folder / name).relative_to(root).as_posix().removesuffix(suffix): folder / name
        for folder, names in walk(root, refused=refuse)
        for name in names
        if name.endswith(suffix) and not name.startswith(".")
    }
    if not files:
        raise FileNotFoundError(f"the folder {root} has no file whose name ends with {suffix!r}. {fix}")
    return files
