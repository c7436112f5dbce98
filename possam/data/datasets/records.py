"""From a dataset's description to its records, Detectron2's dicts of images and their annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from possam.data.checks import check_files
from possam.data.datasets.spec import DatasetSpec
from possam.data.instances import load_instances
from possam.data.panoptic import load_panoptic
from possam.data.root import datasets_root
from possam.data.semantic import label_path, load_semantic
from possam.utils.messages import few
from possam.vocabulary import Vocabulary

__all__ = ["load_records"]

Record = dict[str, Any]


def load_records(
    spec: DatasetSpec, root: str | Path | None = None, *, vocabulary: Vocabulary | None = None
) -> list[Record]:
    """Read and validate all annotations of a dataset.

    Args:
        spec: the dataset.
        root: the datasets' root; None as `datasets_root` says.
        vocabulary: the dataset's classes, where they are read already.
    Returns:
        one dict an image: ``file_name``, ``image_id``, ``height``, ``width``, and of each annotation the dataset has
        ``pan_seg_file_name`` with ``segments_info``, ``sem_seg_file_name``, ``annotations``
        (see `load_panoptic`, `load_semantic`, `load_instances`).

    Raises:
        FileNotFoundError: files are missing; names the first of them, how many, and `spec.fix`.
        ValueError: files contradict each other or the vocabulary; names file and ids.
    """
    root = datasets_root(root)
    vocabulary = vocabulary or spec.load_vocabulary()
    if spec.panoptic:
        records = load_panoptic(
            **_images(spec, root),
            panoptic_root=root / spec.panoptic.folder,
            panoptic_json=root / spec.panoptic.json,
            vocabulary=vocabulary,
        )
        if spec.semantic:
            _add_label_maps(records, spec, root)
    elif spec.semantic:
        records = load_semantic(
            image_root=root / spec.image_folder,
            label_root=root / spec.semantic.folder,
            image_suffix=spec.image_suffix,
            label_suffix=spec.semantic.suffix,
            fix=spec.fix,
        )
    else:
        return _instances(spec, root, vocabulary)
    if spec.instances:
        _add_instances(records, spec, root, vocabulary)
    return records


def _images(spec: DatasetSpec, root: Path) -> dict[str, Any]:
    return {
        "image_root": root / spec.image_folder,
        "image_names": spec.image_names,
        "image_suffix": spec.image_suffix,
        "fix": spec.fix,
    }


def _instances(spec: DatasetSpec, root: Path, vocabulary: Vocabulary, *, need_images: bool = True) -> list[Record]:
    assert spec.instances
    return load_instances(
        **_images(spec, root),
        instances_json=root / spec.instances.json,
        vocabulary=vocabulary,
        federated=spec.instances.federated,
        left_out=spec.left_out,
        need_images=need_images,
    )


def _add_label_maps(records: list[Record], spec: DatasetSpec, root: Path) -> None:
    assert spec.semantic
    folder = root / spec.semantic.folder
    for record in records:
        record["sem_seg_file_name"] = label_path(
            record,
            image_root=root / spec.image_folder,
            label_root=folder,
            image_suffix=spec.image_suffix,
            label_suffix=spec.semantic.suffix,
        )
    check_files((record["sem_seg_file_name"] for record in records), f"label maps of {spec.name}", spec.fix)


def _add_instances(records: list[Record], spec: DatasetSpec, root: Path, vocabulary: Vocabulary) -> None:
    """Join by image file: the two JSONs of a dataset need not have the same ids."""
    assert spec.instances
    found = {r["file_name"]: r["annotations"] for r in _instances(spec, root, vocabulary, need_images=False)}
    absent = [record["image_id"] for record in records if record["file_name"] not in found]
    if absent:
        raise ValueError(
            f"{root / spec.instances.json} does not list the images {few(absent)} of the panoptic annotation; "
            f"take both from the same release. {spec.fix}"
        )
    for record in records:
        record["annotations"] = found[record["file_name"]]
