"""Images whose masks have no names, in SA-1B's layout: beside every picture a JSON of its masks.

``a.jpg`` has ``a.json``: {"image": {"height", "width", …}, "annotations": [{"segmentation": {"size", "counts"},
"bbox", "area", …}, …]}. The JSONs are read when their image is: together they would not fit into memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from possam.data.catalog import register
from possam.data.checks import image_size, is_number, pixel_size, read_annotation_file, require_keys, require_list
from possam.data.images import picture_sizes
from possam.data.pictures import UnreadableFile
from possam.data.run_lengths import check_mask, to_run_lengths
from possam.data.semantic import files_of
from possam.utils.files import expand_home
from possam.utils.messages import few
from possam.vocabulary import Vocabulary

__all__ = ["UNNAMED", "load_unnamed", "read_unnamed", "register_unnamed"]

UNNAMED = -1
"""Class of an instance without a name: it trains masks, and no classifier."""
FORMAT = "SA-1B"
_KEYS = ("segmentation", "bbox", "area")


def register_unnamed(name: str, *, image_root: str | Path, vocabulary: Vocabulary, image_suffix: str = ".jpg") -> None:
    """Make a folder known to the catalogs under `name`; its files are looked at when it is loaded.

    Args:
        image_root, image_suffix: see `load_unnamed`.
        vocabulary: that of the datasets it is trained with: a batch has one vocabulary.

    Raises:
        ValueError: another dataset has this name already.
    """
    image_root = expand_home(image_root)
    places = {"image_root": str(image_root), "image_suffix": image_suffix}

    def load() -> list[dict[str, Any]]:
        return load_unnamed(image_root=image_root, image_suffix=image_suffix)

    register(name, load, vocabulary=vocabulary, tasks=(), places=places)


def load_unnamed(*, image_root: str | Path, image_suffix: str = ".jpg") -> list[dict[str, Any]]:
    """Pair pictures and JSONs.

    Args:
        image_root: folder of both, in any subfolders.
        image_suffix: end of the pictures' names; each has a JSON of the same name with ".json" instead.
    Returns:
        one dict an image, by name: ``file_name``, ``image_id`` (the relative path without its suffix), ``height``
        and ``width`` (from the picture's header) and ``masks_file_name``, which `read_unnamed` reads.

    Raises:
        FileNotFoundError: the folder is missing or empty, or a picture has no JSON or a JSON no picture.
        ValueError: a picture does not decode, or a subfolder cannot be listed; names it.
    """
    fix = "Check image_root and image_suffix: SA-1B's archives hold pictures and JSONs side by side."
    images, masks = (files_of(Path(image_root), suffix, fix) for suffix in (image_suffix, ".json"))
    for lonely, what in ((images.keys() - masks.keys(), ".json"), (masks.keys() - images.keys(), image_suffix)):
        if lonely:
            raise FileNotFoundError(
                f"{len(lonely)} files under {image_root} have no {what} beside them: {few(sorted(lonely), 3)}. {fix}"
            )
    keys = sorted(images)
    sizes = picture_sizes(images[key] for key in keys)
    return [
        {
            "file_name": str(images[key]),
            "image_id": key,
            "height": height,
            "width": width,
            "masks_file_name": str(masks[key]),
        }
        for key, (height, width) in zip(keys, sizes, strict=True)
    ]


def read_unnamed(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the masks of a record's JSON, which may overlap.

    Returns:
        As `possam.data.annotations.read_instances`, of the class `UNNAMED`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFile: it is not in SA-1B's format, its image has another size, or a mask is none or lies elsewhere
            than its box says; names the file and the annotation. Training passes over a few such images, since the
            files were not looked at before it.
    """
    try:
        return _read(record)
    except ValueError as error:
        raise UnreadableFile(str(error)) from error


def _read(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    path, size = record["masks_file_name"], image_size(record)
    content = read_annotation_file(path, "Unpack the archive of this image again.")
    require_keys(content, ("image", "annotations"), path, FORMAT)
    require_keys(content["image"], ("height", "width"), f"{path}: image", FORMAT)
    require_list(content["annotations"], f"{path}: annotations")
    stated = (content["image"]["height"], content["image"]["width"])
    if stated != size:
        raise ValueError(
            f"{path} is of an image of {pixel_size(stated)}, but {record['file_name']} is {pixel_size(size)}; unpack "
            "both from the same archive."
        )
    instances = []
    for position, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotations[{position}]"
        require_keys(annotation, _KEYS, where, FORMAT)
        box, area = annotation["bbox"], annotation["area"]
        if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and is_number(area)):
            raise ValueError(
                f"{where} needs a bbox [x, y, width, height] and an area in pixels, but has {box!r:.80} and "
                f"{area!r:.40}."
            )
        check_mask(annotation["segmentation"], size, box=box, source=where)
        runs = to_run_lengths(annotation["segmentation"], size, source=where)
        instances.append({"category_id": UNNAMED, "iscrowd": 0, "area": area, "segmentation": runs})
    return instances
