"""The two development kits of Pascal VOC that the field evaluates on: 2012 for VOC, 2010 for Pascal Context."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.layouts.drawing import (
    Size,
    classes_of,
    recolor,
    save_json,
    save_lines,
    save_map,
    save_photo,
    scene,
)

# Of the 459 classes, numbered from 1, as the .mat files hold them; 1, 100 and 459 are not among the 59.
CONTEXT_STUFF = (187, 360, 1, 459)
CONTEXT_THINGS = (2, 284, 59, 100)
VOC_THINGS = (1, 15, 20, 7)


def make_pascal_voc(root: Path, *, images: int = 2, size: Size = (24, 32)) -> None:
    """VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,SegmentationObject,ImageSets/Segmentation}.

    The stuff of the scenes is background; one picture has no segmentation and is in no list.
    """
    voc = root / "VOCdevkit/VOC2012"
    names: dict[str, list[str]] = {"train": [], "val": []}
    for split, first in (("train", 1), ("val", 501)):
        for number in range(first, first + images):
            name = f"2007_{number:06d}"
            names[split].append(name)
            index = scene(number, size)
            classes = classes_of(number, (0,), VOC_THINGS)
            save_photo(voc / "JPEGImages" / f"{name}.jpg", number, size)
            save_map(voc / "SegmentationClass" / f"{name}.png", recolor(index, classes, 255, np.uint8), palette=True)
            save_map(
                voc / "SegmentationObject" / f"{name}.png", recolor(index, [0, 0, 1, 2], 255, np.uint8), palette=True
            )
        save_lines(voc / "ImageSets/Segmentation" / f"{split}.txt", names[split])
    save_lines(voc / "ImageSets/Segmentation/trainval.txt", names["train"] + names["val"])
    save_photo(voc / "JPEGImages/2012_009999.jpg", 9, size)


def make_pascal_context(root: Path, *, images: int = 2, size: Size = (24, 32), merged_json: bool = False) -> None:
    """VOCdevkit/VOC2010/{JPEGImages,ImageSets/Main,trainval} and, on demand, trainval_merged.json, which has the
    same splits without the last image of each."""
    voc = root / "VOCdevkit/VOC2010"
    infos = []
    for split, first in (("train", 1), ("val", 501)):
        names = [f"2008_{number:06d}" for number in range(first, first + images)]
        for number, name in enumerate(names, start=first):
            classes = classes_of(number, CONTEXT_STUFF, CONTEXT_THINGS)
            save_photo(voc / "JPEGImages" / f"{name}.jpg", number, size)
            (voc / "trainval").mkdir(exist_ok=True)
            savemat(
                voc / "trainval" / f"{name}.mat",
                {"LabelMap": recolor(scene(number, size), classes, 0, np.uint16)},
                do_compression=True,
            )
            infos.append({"file_name": f"{name}.jpg", "image_id": number, "phase": split})
        infos.pop()
        save_lines(voc / "ImageSets/Main" / f"{split}.txt", names)
    if merged_json:
        save_json(voc / "trainval_merged.json", {"images": infos, "annos_segmentation": [], "categories": []})
