"""ADE20K with 150 classes (the scene parsing challenge): panoptic, semantic and instance annotations."""

from __future__ import annotations

from possam.data.datasets.spec import DatasetSpec, InstanceFiles, PanopticFiles, SemanticFiles

_IMAGES = {"train": 20_210, "val": 2_000}
_FOLDERS = {"train": "training", "val": "validation"}
_ROOT = "ADEChallengeData2016"
_SCENES = (
    "Download ADEChallengeData2016.zip from sceneparsing.csail.mit.edu and unpack it in the datasets' root, which "
    "gives ADEChallengeData2016/images and ADEChallengeData2016/annotations."
)
_INSTANCES = f"{_SCENES} Unpack annotations_instance.tar from the same page in ADEChallengeData2016/."


def _semantic_files(split: str) -> SemanticFiles:
    return SemanticFiles(folder=f"{_ROOT}/annotations_detectron2/{_FOLDERS[split]}")


def _instance_files(split: str) -> InstanceFiles:
    return InstanceFiles(json=f"{_ROOT}/ade20k_instance_{split}.json")


def _panoptic(split: str) -> DatasetSpec:
    return DatasetSpec(
        name=f"ade20k_panoptic_{split}",
        vocabulary="ade20k_150",
        image_folder=f"{_ROOT}/images/{_FOLDERS[split]}",
        images=_IMAGES[split],
        panoptic=PanopticFiles(json=f"{_ROOT}/ade20k_panoptic_{split}.json", folder=f"{_ROOT}/ade20k_panoptic_{split}"),
        semantic=_semantic_files(split),
        # Scored against, not trained on.
        instances=_instance_files(split) if split == "val" else None,
        source=_INSTANCES,
        preparation="ade20k",
    )


def _semantic(split: str) -> DatasetSpec:
    return DatasetSpec(
        name=f"ade20k_semantic_{split}",
        vocabulary="ade20k_150",
        image_folder=f"{_ROOT}/images/{_FOLDERS[split]}",
        images=_IMAGES[split],
        semantic=_semantic_files(split),
        source=_SCENES,
        preparation="ade20k_semantic",
    )


def _instance(split: str) -> DatasetSpec:
    return DatasetSpec(
        name=f"ade20k_instance_{split}",
        vocabulary="ade20k_150",
        things_only=True,
        image_folder=f"{_ROOT}/images/{_FOLDERS[split]}",
        images=_IMAGES[split],
        instances=_instance_files(split),
        source=_INSTANCES,
        preparation="ade20k_instance",
    )


ADE20K = tuple(make(split) for make in (_panoptic, _semantic, _instance) for split in ("train", "val"))
