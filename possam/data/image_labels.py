"""Datasets of images with class labels and no masks: a folder a class, or a JSON file of labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from possam.data.catalog import IMAGE_LABELS, register
from possam.data.images import picture_sizes, refuse
from possam.files import expand_home, read_any_json, read_json
from possam.folders import walk
from possam.messages import did_you_mean, few
from possam.vocabulary import Category, Vocabulary, fold_name

__all__ = ["load_class_list", "load_image_labels", "register_image_labels"]

logger = logging.getLogger(__name__)

IMAGENET = "imagenet_1k"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_REAL = "ILSVRC2012_val_{:08d}.JPEG"  # image i of ImageNet's validation set, from 1


def register_image_labels(
    name: str,
    *,
    image_root: str | Path,
    labels: str | Path = "",
    vocabulary: Vocabulary | None = None,
    prepare: str = "",
    root: str | Path | None = None,
) -> None:
    """Make a dataset of images with class labels known to the catalogs; its files are read when it is loaded.

    Args:
        name: name in ``DatasetCatalog`` and ``MetadataCatalog``.
        image_root, labels: see `load_image_labels`.
        vocabulary: the classes. None: the names of the folders under `image_root`, sorted, "_" being a blank; they are
            looked at now.
        prepare: what to do for the files, said where they are missing when the dataset is loaded.
        root: see `possam.data.catalog.register`.

    Raises:
        ValueError: another dataset has this name already; or `vocabulary` is None and there is a file of labels, or a
            folder's name is no class name.
        FileNotFoundError: `vocabulary` is None and there are no folders.
    """
    image_root = expand_home(image_root)
    labels = expand_home(labels) if labels else ""
    if vocabulary is None:
        if labels:
            raise ValueError(f"the labels of {labels} need a vocabulary: give a table or the path of a class list.")
        vocabulary = _folder_names(Path(image_root), name)
    chosen = vocabulary

    def load() -> list[dict[str, Any]]:
        return load_image_labels(image_root=image_root, labels=labels, vocabulary=chosen, fix=prepare)

    places = {"image_root": str(image_root), "labels": str(labels)}
    register(name, load, vocabulary=vocabulary, tasks=(IMAGE_LABELS,), places=places, root=root)


def load_class_list(name_or_path: str | Path) -> Vocabulary:
    """The vocabulary of a shipped table, of a JSON file in the tables' format, or of a class index; or "imagenet_1k".

    A class index is the JSON object in which ImageNet's classes are usually given, {"0": ["n01440764", "tench"], …}:
    to every position the name of the class's folder and its own, "_" being a blank. Names may occur twice in it.
    "imagenet_1k" needs no file: these are the 1,000 classes of ILSVRC2012 in their order, by the names that CLIP's
    authors gave them (open_clip's copy), in folders of WordNet ids (timm's).

    Raises:
        ValueError: it is none of these, positions are missing, or two classes have one folder.
    """
    if str(name_or_path) == IMAGENET:
        return _imagenet()
    path = Path(name_or_path)
    if path.suffix != ".json" or not path.is_file():
        return Vocabulary.load(name_or_path)
    content = read_json(path)
    if not content or not all(isinstance(entry, list) for entry in content.values()):
        return Vocabulary.load(name_or_path)
    categories = []
    folders: dict[str, int] = {}
    for position in range(len(content)):
        entry = content.get(str(position))
        if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(text, str) for text in entry)):
            raise ValueError(
                f"{path}: class {position} is {entry!r:.80}, but must be a list of its folder and its name; the keys "
                f"must be 0 to {len(content) - 1}."
            )
        if entry[0] in folders:
            raise ValueError(
                f"{path}: classes {folders[entry[0]]} and {position} have the same folder {entry[0]!r:.80}; give each "
                "its own."
            )
        folders[entry[0]] = position
        names = (entry[1].replace("_", " "),)
        categories.append(Category(names=names, isthing=True, dataset_id=position, dataset_name=entry[0]))
    return Vocabulary(name=path.stem, categories=tuple(categories), source=str(path), shared_names=True)


def _imagenet() -> Vocabulary:
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES  # slow to import
    from timm.data import ImageNetInfo

    folders = ImageNetInfo("imagenet-1k")
    categories = [
        Category(names=(name,), isthing=True, dataset_id=index, dataset_name=folders.index_to_label_name(index))
        for index, name in enumerate(IMAGENET_CLASSNAMES)
    ]
    return Vocabulary(name=IMAGENET, categories=tuple(categories), source="open_clip and timm", shared_names=True)


def load_image_labels(
    *, image_root: str | Path, vocabulary: Vocabulary, labels: str | Path = "", fix: str = ""
) -> list[dict[str, Any]]:
    """Read which classes images show.

    Args:
        image_root: folder of the images, in any subfolders.
        vocabulary: the classes.
        labels: a JSON file: an object of lists of labels by file name, relative to `image_root`; or, as of ReaL, a list
            of lists of labels, the first for ILSVRC2012_val_00000001.JPEG, in whichever subfolder. A label is a
            position in the vocabulary or a class name. "": the first subfolder of an image names its one class, by a
            name of the vocabulary or by its ``dataset_name``.
        fix: what to do where files are missing.
    Returns:
        one dict an image, by name: ``file_name``, ``image_id`` (the relative path), ``height`` and ``width`` (from the
        picture's header, turned as its EXIF orientation says) and ``labels``, its classes as sorted positions in the
        vocabulary, each once. Images without labels are left out, and their number is logged.

    Raises:
        FileNotFoundError: a folder, the file of labels or an image that it names is not there.
        ValueError: a label or a folder is no class of the vocabulary; the file of labels is of another form, or has
            another number of entries than there are images; or an image does not decode.
    """
    images = _images(Path(image_root), fix or "Check image_root.")
    positions = _positions(vocabulary)
    if labels:
        given = _labels_of_file(labels, images, fix or "Check image_root and labels.")
        found = {name: _classes(entry, positions, f"{labels}: {name}", vocabulary) for name, entry in given.items()}
    else:
        found = {name: _class_of_folder(name, positions, Path(image_root), vocabulary) for name in images}
    if without := len(images) - sum(bool(found.get(name)) for name in images):
        logger.info("%s: %d of %d images have no label and are left out.", image_root, without, len(images))
    names = sorted(name for name, classes in found.items() if classes)
    sizes = picture_sizes(images[name] for name in names)
    return [
        {
            "file_name": str(images[name]),
            "image_id": name,
            "height": height,
            "width": width,
            "labels": found[name],
        }
        for name, (height, width) in zip(names, sizes, strict=True)
    ]


def _images(root: Path, fix: str) -> dict[str, Path]:
    """Images under a folder by relative path."""
    if not root.is_dir():
        raise FileNotFoundError(f"the folder {root} does not exist. {fix}")
    images = {
        (folder / name).relative_to(root).as_posix(): folder / name
        for folder, names in walk(root, refused=refuse)
        for name in names
        if name.lower().endswith(_SUFFIXES) and not name.startswith(".")
    }
    if not images:
        raise FileNotFoundError(f"the folder {root} has no image ({', '.join(_SUFFIXES)}). {fix}")
    return images


def _folder_names(root: Path, name: str) -> Vocabulary:
    folders = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if not folders:
        raise FileNotFoundError(
            f"{root} has no folders, whose names would be the classes; check image_root, or give a vocabulary."
        )
    categories = tuple(
        Category(names=(folder.replace("_", " "),), isthing=True, dataset_id=position, dataset_name=folder)
        for position, folder in enumerate(folders)
    )
    return Vocabulary(name=name, categories=categories, source=str(root))


def _positions(vocabulary: Vocabulary) -> dict[str, int]:
    """Contiguous classes by folded name; what a dataset itself calls a class comes before names."""
    by_name: dict[str, int] = {}
    for index, label in zip(vocabulary.name_class, vocabulary.names, strict=True):
        by_name.setdefault(fold_name(label), index)
    return by_name | {fold_name(one.dataset_name): index for index, one in enumerate(vocabulary.categories)}


def _class_of_folder(name: str, positions: Mapping[str, int], root: Path, vocabulary: Vocabulary) -> list[int]:
    folder, *rest = name.split("/")
    if not rest:
        raise ValueError(f"{root / name} lies in no folder of a class; move it into one, or give a file of labels.")
    for text in (folder, folder.replace("_", " ")):
        if fold_name(text) in positions:
            return [positions[fold_name(text)]]
    raise ValueError(
        f"the folder {root / folder} is no class of the vocabulary {vocabulary.name!r} ({len(vocabulary)} classes): "
        f"neither a name of one nor a dataset_name.{did_you_mean(folder, list(positions))}"
    )


def _labels_of_file(path: str | Path, images: Mapping[str, Path], fix: str) -> dict[str, Any]:
    """Entries of a file of labels by the relative path of their image."""
    content = read_any_json(path)
    if isinstance(content, Mapping):
        if missing := [name for name in content if name not in images]:
            raise FileNotFoundError(
                f"{path} has labels of {len(missing)} images that are not there: {few(missing, 3)}. {fix}"
            )
        return dict(content)
    if not isinstance(content, list):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, but an object of lists of labels by file name is expected, or "
            "a list of lists in the order of ImageNet's validation images."
        )
    by_name = {Path(name).name: name for name in images}
    wanted = [_REAL.format(number) for number in range(1, len(content) + 1)]
    if missing := [name for name in wanted if name not in by_name]:
        raise FileNotFoundError(
            f"{path} has labels of {len(content)} images, of which {len(missing)} are not there: {few(missing, 3)}. "
            f"{fix}"
        )
    if len(images) != len(content):
        raise ValueError(
            f"{path} has labels of {len(content)} images, but there are {len(images)}; take the file and the images "
            "of the same set."
        )
    return {by_name[name]: entry for name, entry in zip(wanted, content, strict=True)}


def _classes(entry: Any, positions: Mapping[str, int], where: str, vocabulary: Vocabulary) -> list[int]:
    if not isinstance(entry, Sequence) or isinstance(entry, str):
        raise ValueError(f"{where} must have a list of labels, but has {entry!r:.80}.")
    classes = set()
    for label in entry:
        if isinstance(label, str) and fold_name(label) in positions:
            classes.add(positions[fold_name(label)])
        elif type(label) is int and 0 <= label < len(vocabulary):
            classes.add(label)
        else:
            hint = did_you_mean(label, list(positions)) if isinstance(label, str) else ""
            raise ValueError(
                f"{where} has the label {label!r:.80}, but the vocabulary {vocabulary.name!r} has the positions 0 to "
                f"{len(vocabulary) - 1} and its names.{hint}"
            )
    return sorted(classes)
