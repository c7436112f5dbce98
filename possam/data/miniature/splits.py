"""The miniature world's splits, and their registration in the catalogs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from possam.data.catalog import is_registered
from possam.data.image_labels import register_image_labels
from possam.data.panoptic import register_panoptic
from possam.data.root import datasets_root
from possam.vocabulary import Vocabulary

PREPARE_COMMAND = "Run: python datasets/prepare_mini.py"


@dataclass(frozen=True)
class Split:
    """A split: scene i is drawn from the seed `[seed, i]` with the palette of the table `vocabulary`.

    With `image_labels` its annotation is the classes that each scene shows. The panoptic annotation is drawn, too, to
    compare with, but not read. An `extra` split is prepared only if it is requested by name.
    """

    vocabulary: str
    seed: int
    scenes: int
    image_labels: bool = False
    extra: bool = False


SPLITS: dict[str, Split] = {
    "mini_a_train": Split("mini_a", 1, 1200),
    # Constants of an ensemble are chosen on one split of B and reported on the other (METHOD.md 1.9).
    "mini_b_selection": Split("mini_b", 2, 200),
    "mini_b_report": Split("mini_b", 3, 300),
    "mini_b_labels": Split("mini_b", 4, 600, image_labels=True),
    "mini_a_report": Split("mini_a", 5, 200),
    "mini_a_train_large": Split("mini_a", 1, 4800, extra=True),  # begins with the scenes of mini_a_train
}
CLASS_SPLIT = "mini_12_14"
DIVIDED = {f"{CLASS_SPLIT}_selection": "mini_b_selection", f"{CLASS_SPLIT}_report": "mini_b_report"}
"""The same scenes once more, by the names of datasets whose things are divided into base and novel classes."""


def split_paths(root: str | Path | None, name: str) -> dict[str, Path]:
    """Where a split lies: `image_root`, `panoptic_root` and `panoptic_json` under `<root>/mini/<name>`."""
    folder = datasets_root(root) / "mini" / name
    return {
        "image_root": folder / "images",
        "panoptic_root": folder / "panoptic",
        "panoptic_json": folder / "panoptic.json",
    }


def labels_path(root: str | Path | None, name: str) -> Path:
    """Path of the labels file of a split of image labels."""
    return datasets_root(root) / "mini" / name / "labels.json"


def register_miniature(root: str | Path | None = None) -> list[str]:
    """Makes the splits known to the catalogs, whether or not they are prepared, and returns their
    names.

    Loading one that is not prepared raises FileNotFoundError with the command to run. Calling again with
    another root moves the names there.

    Args:
        root: folder of the datasets; None as `datasets_root` says.
    """
    folder = datasets_root(root)
    whole = PREPARE_COMMAND + (f" --root {root}" if root else "")
    for name, drawn in ({name: name for name in SPLITS} | DIVIDED).items():
        if is_registered(name, folder):
            continue
        split = SPLITS[drawn]
        command = f"{whole} --splits {drawn}" if split.extra else whole
        vocabulary = Vocabulary.load(split.vocabulary)
        paths = split_paths(root, drawn)
        if split.image_labels:
            register_image_labels(
                name,
                image_root=paths["image_root"],
                labels=labels_path(root, name),
                vocabulary=vocabulary,
                prepare=command,
                root=folder,
            )
        else:
            facts: dict[str, Any] = {**paths, "class_split": CLASS_SPLIT if name in DIVIDED else ""}
            register_panoptic(name, **facts, vocabulary=vocabulary, prepare=command, root=folder)
    return [*SPLITS, *DIVIDED]
