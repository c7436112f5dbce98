"""Cityscapes' fine annotations: panoptic files and label maps as cityscapesScripts makes them."""

from __future__ import annotations

from possam.data.datasets.spec import DatasetSpec, PanopticFiles, SemanticFiles


def _spec(split: str, images: int) -> DatasetSpec:
    panoptic = f"cityscapes/gtFine/cityscapes_panoptic_{split}"
    return DatasetSpec(
        name=f"cityscapes_panoptic_{split}",
        vocabulary="cityscapes",
        image_folder=f"cityscapes/leftImg8bit/{split}",
        image_suffix="_leftImg8bit.png",
        # The JSON's file names are those of no file; its ids are the images' names without the suffix.
        image_names="id",
        images=images,
        panoptic=PanopticFiles(json=f"{panoptic}.json", folder=panoptic),
        semantic=SemanticFiles(folder=f"cityscapes/gtFine/{split}", suffix="_gtFine_labelTrainIds.png"),
        source=(
            "Register at cityscapes-dataset.com, download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip and "
            "unpack them in cityscapes/."
        ),
        preparation="cityscapes",
    )


CITYSCAPES = (_spec("train", 2_975), _spec("val", 500))
