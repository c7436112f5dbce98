"""All described datasets in the catalogs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from possam.data.catalog import IGNORE_LABEL, is_registered, register
from possam.data.datasets.records import load_records
from possam.data.datasets.spec import DatasetSpec
from possam.data.root import datasets_root
from possam.vocabulary import Vocabulary

__all__ = ["register_specs"]


def register_specs(
    specs: tuple[DatasetSpec, ...], root: str | Path | None = None, class_names: str = ""
) -> list[str]:
    """Register datasets, whose files need not be there, and return their names.

    Loading one that is not there raises FileNotFoundError with what to do. Calling again is harmless; calling again
    with another root moves the names there, and with other class names changes those.

    Args:
        specs: the datasets.
        root: the datasets' root; None as `datasets_root` says.
        class_names: where the names of their classes come from (`DatasetSpec.load_vocabulary`).
    """
    folder = datasets_root(root)
    tables: dict[tuple[str, bool, str, bool], Vocabulary] = {}
    for spec in specs:
        if is_registered(spec.name, folder, class_names):
            continue
        table = (spec.vocabulary, spec.things_only, spec.class_split, spec.base_only)
        if table not in tables:
            tables[table] = spec.load_vocabulary(class_names)
        register(
            spec.name,
            partial(load_records, spec, folder, vocabulary=tables[table]),
            vocabulary=tables[table],
            tasks=spec.tasks,
            places=_places(spec, folder),
            ignore_label=spec.semantic.ignore_label if spec.semantic else IGNORE_LABEL,
            federated=bool(spec.instances and spec.instances.federated),
            root=folder,
            class_names=class_names,
            class_split=spec.class_split,
        )
    return [spec.name for spec in specs]


def _places(spec: DatasetSpec, root: Path) -> dict[str, str]:
    places = {"image_root": root / spec.image_folder}
    if spec.panoptic:
        places |= {"panoptic_root": root / spec.panoptic.folder, "panoptic_json": root / spec.panoptic.json}
    if spec.semantic:
        places["sem_seg_root"] = root / spec.semantic.folder
    if spec.instances:
        places["json_file"] = root / spec.instances.json
    return {key: str(place) for key, place in places.items()}
