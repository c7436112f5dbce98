"""Mapillary Vistas 1.2, research edition, with 65 classes."""

from __future__ import annotations

from possam.data.datasets.spec import DatasetSpec, PanopticFiles, SemanticFiles


def _spec(split: str, folder: str, images: int) -> DatasetSpec:
    root = f"mapillary_vistas/{folder}"
    return DatasetSpec(
        name=f"mapillary_panoptic_{split}",
        vocabulary="mapillary_vistas",
        image_folder=f"{root}/images",
        image_names="png",
        images=images,
        panoptic=PanopticFiles(json=f"{root}/panoptic/panoptic_2018.json", folder=f"{root}/panoptic"),
        # The 66th class of the label maps is "Unlabeled".
        semantic=SemanticFiles(folder=f"{root}/labels", ignore_label=65),
        source=(
            "Register at mapillary.com/dataset/vistas, download version 1.2 and unpack it in mapillary_vistas/, which "
            f"gives {root}/images, {root}/labels and {root}/panoptic."
        ),
    )


MAPILLARY = (_spec("train", "training", 18_000), _spec("val", "validation", 2_000))
