"""Datasets in Detectron2's catalogs: how to load them, and what evaluators and models need to know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.vocabulary import Vocabulary

__all__ = ["ANNOTATIONS", "IGNORE_LABEL", "IMAGE_LABELS", "is_registered", "register"]

ANNOTATIONS = ("panoptic", "semantic", "instance")
"""The kinds of annotation, which tasks need; a panoptic one serves for all three."""

IMAGE_LABELS = "image_labels"
"""The kind of annotation of a dataset whose images have class labels and no masks: to train on, beside others."""

IGNORE_LABEL = 255


def is_registered(name: str, root: str | Path, class_names: str = "") -> bool:
    """Return whether a dataset is registered under this root with these `class_names` (see `register`)."""
    return name in DatasetCatalog.list() and _origin(name) == (str(root), class_names)


def register(
    name: str,
    load: Callable[[], list[dict[str, Any]]],
    *,
    vocabulary: Vocabulary,
    tasks: Sequence[str],
    places: Mapping[str, str],
    ignore_label: int = IGNORE_LABEL,
    federated: bool = False,
    root: str | Path | None = None,
    class_names: str = "",
    class_split: str = "",
) -> None:
    """Make a dataset known to the catalogs. Registering the same again is harmless.

    Args:
        name: name in ``DatasetCatalog`` and ``MetadataCatalog``.
        load: gives the records; called whenever the dataset is loaded.
        vocabulary: the classes.
        tasks: the kinds of annotation it has, of `ANNOTATIONS`, or `IMAGE_LABELS`.
        places: files and folders, by their keys in the metadata.
        ignore_label: value of unlabeled pixels in label maps.
        federated: whether classes that an image's annotation does not name are unknown, as in LVIS.
        root: the datasets' root, for a dataset that lies under one: registering it under another root moves it.
        class_names: where the vocabulary's names come from, if not from the package; for a dataset that lies under a
            root, registering it with others replaces them.
        class_split: the split (`possam.vocabulary.splits`) whose base and novel classes it has, or "".

    Raises:
        ValueError: another dataset has this name already.
    """
    facts = {
        **places,
        "vocabulary": vocabulary,
        "tasks": tuple(tasks),
        "ignore_label": ignore_label,
        "federated": federated,
        "class_split": class_split,
    }
    if root is not None:
        # Not "class_names", which Detectron2 takes for an old name of thing_classes.
        facts |= {"datasets_root": str(root), "names_source": class_names}
    if name in DatasetCatalog.list():
        if root is None or _origin(name) in ((None, ""), (str(root), class_names)):
            _check_same(name, facts)
            return
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, load)
    # Detectron2's loader reads the first, its visualizer both; a contiguous id indexes either of them.
    names = list(vocabulary.display_names)
    MetadataCatalog.get(name).set(**facts, thing_classes=names, stuff_classes=names)


def _origin(name: str) -> tuple[str | None, str]:
    metadata = MetadataCatalog.get(name)
    return getattr(metadata, "datasets_root", None), getattr(metadata, "names_source", "")


def _check_same(name: str, wanted: Mapping[str, Any]) -> None:
    metadata = MetadataCatalog.get(name)
    different = [key for key, value in wanted.items() if getattr(metadata, key, None) != value]
    if different:
        raise ValueError(
            f"dataset {name!r} is registered already with another {different[0]}; choose another name "
            f"(got {wanted[different[0]]!r:.200})."
        )
