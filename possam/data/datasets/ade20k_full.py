"""ADE20K's full release with its 847 most frequent classes (A-847)."""

from __future__ import annotations

from possam.data.datasets.spec import DatasetSpec, SemanticFiles

_ROOT = "ADE20K_2021_17_01"


def _spec(split: str, folder: str, images: int) -> DatasetSpec:
    return DatasetSpec(
        name=f"ade20k_full_{split}",
        vocabulary="ade20k_847",
        image_folder=f"{_ROOT}/images_detectron2/{folder}",
        images=images,
        semantic=SemanticFiles(
            folder=f"{_ROOT}/annotations_detectron2/{folder}", suffix=".tif", ignore_label=65535, dtype="uint16"
        ),
        source=(
            "Register at groups.csail.mit.edu/vision/datasets/ADE20K, download the full dataset of 2021-01-17 and "
            "unpack it in the datasets' root, which gives ADE20K_2021_17_01/images and "
            "ADE20K_2021_17_01/index_ade20k.pkl."
        ),
        preparation="ade20k_full",
    )


ADE20K_FULL = (_spec("train", "training", 25_574), _spec("val", "validation", 2_000))
