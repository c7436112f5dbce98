"""PASCAL Context with its 59 most frequent classes (PC-59) and with 459 (PC-459)."""

from __future__ import annotations

from possam.data.datasets.spec import DatasetSpec, SemanticFiles

_ROOT = "pascal_ctx_d2"
# The second number is that of trainval_merged.json, which others prepare from: it leaves out three images.
_SPLITS = {"train": ("training", 4_998, 4_996), "val": ("validation", 5_105, 5_104)}


def _spec(classes: int, split: str, *, suffix: str, ignore_label: int, dtype: str) -> DatasetSpec:
    folder, images, merged = _SPLITS[split]
    return DatasetSpec(
        name=f"pascal_context_{classes}_{split}",
        vocabulary=f"pascal_context_{classes}",
        image_folder=f"{_ROOT}/images/{folder}",
        images=images,
        other_counts=(merged,),
        semantic=SemanticFiles(
            folder=f"{_ROOT}/annotations_ctx{classes}/{folder}", suffix=suffix, ignore_label=ignore_label, dtype=dtype
        ),
        source=(
            "Download VOCtrainval_03-May-2010.tar from host.robots.ox.ac.uk/pascal/VOC/voc2010 and unpack it in the "
            "datasets' root, and trainval.tar.gz from cs.stanford.edu/~roozbeh/pascal-context and unpack it in "
            "VOCdevkit/VOC2010/."
        ),
        preparation=f"pascal_context_{classes}",
    )


PASCAL_CONTEXT = (
    *(_spec(59, split, suffix=".png", ignore_label=255, dtype="uint8") for split in _SPLITS),
    *(_spec(459, split, suffix=".tif", ignore_label=65535, dtype="uint16") for split in _SPLITS),
)
