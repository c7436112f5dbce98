"""COCO panoptic 2017, in the folders the field keeps it in."""

from __future__ import annotations

from pathlib import Path

from possam.data.panoptic import register_panoptic
from possam.vocabulary import Vocabulary


def register_coco(root: Path) -> None:
    """Register `coco_panoptic_train` and `coco_panoptic_val` under `root`/coco; the files need not be there yet."""
    coco = root / "coco"
    for split in ("train", "val"):
        register_panoptic(
            f"coco_panoptic_{split}",
            image_root=coco / f"{split}2017",
            panoptic_root=coco / f"panoptic_{split}2017",
            panoptic_json=coco / "annotations" / f"panoptic_{split}2017.json",
            vocabulary=Vocabulary.load("coco_panoptic"),
            prepare=f"download COCO's {split}2017 images and panoptic annotations from cocodataset.org into {coco}",
        )
