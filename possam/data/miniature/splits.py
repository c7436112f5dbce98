"""The miniature world's splits, and their registration in the catalogs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from possam.data.catalog import is_registered
from possam.data.panoptic import register_panoptic
from possam.data.root import datasets_root
from possam.vocabulary import Vocabulary

PREPARE_COMMAND = "Run: python datasets/prepare_mini.py"


@dataclass(frozen=True)
class Split:
    """A split: scene i is drawn from the seed `[seed, i]` with the palette of the table `vocabulary`."""

    vocabulary: str
    seed: int
    scenes: int


SPLITS: dict[str, Split] = {
    "mini_a_train": Split("mini_a", 1, 1200),
    # Constants of an ensemble are chosen on one split of B and reported on the other (METHOD.md 1.9).
    "mini_b_selection": Split("mini_b", 2, 200),
    "mini_b_report": Split("mini_b", 3, 300),
}


def split_paths(root: str | Path | None, name: str) -> dict[str, Path]:
    """Where a split lies: `image_root`, `panoptic_root` and `panoptic_json` under `<root>/mini/<name>`."""
    folder = datasets_root(root) / "mini" / name
    return {
        "image_root": folder / "images",
        "panoptic_root": folder / "panoptic",
        "panoptic_json": folder / "panoptic.json",
    }


def register_miniature(root: str | Path | None = None) -> list[str]:
    """Makes the three splits known to the catalogs, whether or not they are prepared, and returns their
    names.

    Loading one that is not prepared raises FileNotFoundError with the command to run. Calling again with
    another root moves the names there.

    Args:
        root: folder of the datasets; None as `datasets_root` says.
    """
    folder = datasets_root(root)
    command = PREPARE_COMMAND + (f" --root {root}" if root else "")
    for name, split in SPLITS.items():
        if is_registered(name, folder):
            continue
        vocabulary = Vocabulary.load(split.vocabulary)
        register_panoptic(name, **split_paths(root, name), vocabulary=vocabulary, prepare=command, root=folder)
    return list(SPLITS)
