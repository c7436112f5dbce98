"""PASCAL VOC 2012's segmentation sets: its 20 classes (PAS-20), and with background the 21st (PAS-21)."""

from __future__ import annotations

from possam.data.datasets.spec import DatasetSpec, SemanticFiles

_ROOT = "pascal_voc_d2"
_SPLITS = {"train": ("training", 1_464), "val": ("validation", 1_449)}


def _spec(classes: int, split: str) -> DatasetSpec:
    folder, images = _SPLITS[split]
    return DatasetSpec(
        name=f"pascal_voc_{classes}_{split}",
        vocabulary=f"pascal_voc_{classes}",
        image_folder=f"{_ROOT}/images/{folder}",
        images=images,
        semantic=SemanticFiles(folder=f"{_ROOT}/annotations_pascal{classes}/{folder}"),
        source=(
            "Download VOCtrainval_11-May-2012.tar from host.robots.ox.ac.uk/pascal/VOC/voc2012 and unpack it in the "
            "datasets' root, which gives VOCdevkit/VOC2012."
        ),
        preparation="pascal_voc",
    )


PASCAL_VOC = tuple(_spec(classes, split) for classes in (20, 21) for split in _SPLITS)
