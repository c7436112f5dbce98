"""PASCAL Context with its 59 most frequent classes (PC-59) and with 459 (PC-459)."""

from __future__ import annotations

from possam.data.datasets.spec import DatasetSpec, SemanticFiles

_ROOT = "pascal_ctx_d2"
_SPLITS = {"train": ("training", 4_998), "val": ("validation", 5_105)}
_IMAGES = "Download VOCtrainval_03-May-2010.tar from host.robots.ox.ac.uk/pascal/VOC/voc2010 and unpack it in the root."
_SPLIT_FILE = "the file trainval_merged.json of the Detail API (it holds the splits and the 59 classes) into"


def _spec(classes: int, split: str, semantic: SemanticFiles, source: str) -> DatasetSpec:
    folder, images = _SPLITS[split]
    return DatasetSpec(
        name=f"pascal_context_{classes}_{split}",
        vocabulary=f"pascal_context_{classes}",
        image_folder=f"{_ROOT}/images/{folder}",
        images=images,
        semantic=semantic,
        source=source,
        preparation=f"pascal_context_{classes}",
    )


def _context_59(split: str) -> DatasetSpec:
    semantic = SemanticFiles(folder=f"{_ROOT}/annotations_ctx59/{_SPLITS[split][0]}")
    return _spec(59, split, semantic, f"{_IMAGES} Put {_SPLIT_FILE} VOCdevkit/VOC2010/.")


def _context_459(split: str) -> DatasetSpec:
    semantic = SemanticFiles(
        folder=f"{_ROOT}/annotations_ctx459/{_SPLITS[split][0]}", suffix=".tif", ignore_label=65535, dtype="uint16"
    )
    source = (
        f"{_IMAGES} Unpack trainval.tar.gz from cs.stanford.edu/~roozbeh/pascal-context in VOCdevkit/VOC2010/, and put "
        f"{_SPLIT_FILE} the same folder."
    )
    return _spec(459, split, semantic, source)


PASCAL_CONTEXT = tuple(make(split) for make in (_context_59, _context_459) for split in _SPLITS)
