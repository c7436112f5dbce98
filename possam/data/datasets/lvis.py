"""LVIS 1.0: instances of 1,203 classes on COCO's images."""

from __future__ import annotations

from possam.data.datasets.spec import DatasetSpec, InstanceFiles


def _spec(split: str, images: int, *, class_split: str = "") -> DatasetSpec:
    return DatasetSpec(
        name=f"{class_split or 'lvis_instance'}_{split}",
        class_split=class_split,
        base_only=split == "train",
        vocabulary="lvis",
        image_folder="coco",
        image_names="coco_url",
        images=images,
        instances=InstanceFiles(json=f"lvis/lvis_v1_{split}.json", federated=True),
        source=(
            f"Download lvis_v1_{split}.json.zip from lvisdataset.org and unpack it in lvis/; the images are COCO's: "
            "download train2017.zip and val2017.zip from cocodataset.org and unpack them in coco/."
        ),
    )


_IMAGES = {"train": 100_170, "val": 19_809}
LVIS = tuple(_spec(*split, class_split=divided) for divided in ("", "lvis_866_337") for split in _IMAGES.items())
