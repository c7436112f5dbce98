"""COCO 2017: its panoptic and instance annotations, and COCO-Stuff's 171 classes a pixel."""

from __future__ import annotations

from functools import partial

from possam.data.datasets.spec import DatasetSpec, InstanceFiles, PanopticFiles, SemanticFiles

_IMAGES = {"train": 118_287, "val": 5_000}


def _panoptic(split: str) -> DatasetSpec:
    instances = InstanceFiles(json=f"coco/annotations/instances_{split}2017.json")
    return DatasetSpec(
        name=f"coco_panoptic_{split}",
        vocabulary="coco_panoptic",
        image_folder=f"coco/{split}2017",
        images=_IMAGES[split],
        panoptic=PanopticFiles(json=f"coco/annotations/panoptic_{split}2017.json", folder=f"coco/panoptic_{split}2017"),
        # Scored against, not trained on: every process of a training would read half a gigabyte for nothing.
        instances=instances if split == "val" else None,
        source=(
            f"Download {split}2017.zip, panoptic_annotations_trainval2017.zip and annotations_trainval2017.zip from "
            "cocodataset.org and unpack them in coco/, then, in coco/, the panoptic PNGs: "
            f"unzip annotations/panoptic_{split}2017.zip."
        ),
    )


def _instance(split: str, *, class_split: str = "") -> DatasetSpec:
    return DatasetSpec(
        name=f"{class_split or 'coco_instance'}_{split}",
        class_split=class_split,
        base_only=split == "train",
        vocabulary="coco_panoptic",
        things_only=True,
        image_folder=f"coco/{split}2017",
        images=_IMAGES[split],
        instances=InstanceFiles(json=f"coco/annotations/instances_{split}2017.json"),
        source=(
            f"Download {split}2017.zip and annotations_trainval2017.zip from cocodataset.org and unpack them in coco/."
        ),
    )


def _stuff(split: str) -> DatasetSpec:
    return DatasetSpec(
        name=f"coco_stuff_{split}",
        vocabulary="coco_stuff",
        image_folder=f"coco/{split}2017",
        images=_IMAGES[split],
        semantic=SemanticFiles(folder=f"coco/stuffthingmaps_detectron2/{split}2017"),
        source=(
            f"Download {split}2017.zip from cocodataset.org and unpack it in coco/; download "
            "stuffthingmaps_trainval2017.zip from github.com/nightrome/cocostuff and unpack it in coco/stuffthingmaps/."
        ),
        preparation="coco_stuff",
    )


_DIVIDED = partial(_instance, class_split="coco_48_17")
COCO = tuple(make(split) for make in (_panoptic, _instance, _stuff, _DIVIDED) for split in ("train", "val"))
