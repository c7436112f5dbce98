"""COCO 2017: images, panoptic and instance annotations, and the pixel maps of COCO-Stuff."""

from pathlib import Path

import numpy as np

from possam.vocabulary import Vocabulary
from tests.layouts.drawing import (
    Size,
    boxes,
    classes_of,
    recolor,
    rectangle,
    save_ids,
    save_json,
    save_map,
    save_photo,
    scene,
    segments_of,
)

THINGS = (1, 17, 3, 90)
STUFF = (187, 193, 149, 184, 200)
# Official ids of COCO-Stuff; the maps hold id − 1.
STUFF_MAPS = (157, 124, 92, 182)


def make_coco(root: Path, *, images: int = 2, size: Size = (24, 32)) -> None:
    """coco/{train,val}2017, panoptic_{split}2017, stuffthingmaps/{split}2017 and annotations/*.json.

    The last image of a split has a crowd as its second thing.
    """
    coco = root / "coco"
    categories = [
        {"id": c.dataset_id, "name": c.dataset_name, "isthing": int(c.isthing), "supercategory": "made up"}
        for c in Vocabulary.load("coco_panoptic").categories
    ]
    for split, first in (("train", 101), ("val", 201)):
        infos, panoptic, instances = [], [], []
        for number in range(first, first + images):
            name = f"{number:012d}"
            index, classes = scene(number, size), classes_of(number, STUFF, THINGS)
            crowd = number == first + images - 1
            ids = [7, 70_000, 256 + number, 300 * 300 + number]
            save_photo(coco / f"{split}2017" / f"{name}.jpg", number, size)
            save_ids(coco / f"panoptic_{split}2017" / f"{name}.png", recolor(index, ids, 0, np.int64))
            maps = [value - 1 for value in classes_of(number, STUFF_MAPS, THINGS)]
            save_map(coco / "stuffthingmaps" / f"{split}2017" / f"{name}.png", recolor(index, maps, 255, np.uint8))
            url = f"http://images.cocodataset.org/{split}2017/{name}.jpg"
            infos.append(
                {"id": number, "file_name": f"{name}.jpg", "height": size[0], "width": size[1], "coco_url": url}
            )
            segments = segments_of(index, ids, classes, crowds=(4,) if crowd else ())
            panoptic.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
            for region, segment in zip((3, 4), segments[2:], strict=True):
                shape = _runs(index == region) if segment["iscrowd"] else [rectangle(boxes(number, size)[region])]
                instances.append(
                    {**segment, "id": 10 * number + region, "image_id": number, "segmentation": shape}
                )
        files = coco / "annotations"
        content = {"info": {}, "licenses": [], "images": infos}
        save_json(
            files / f"panoptic_{split}2017.json", {**content, "annotations": panoptic, "categories": categories}
        )
        things = [{key: c[key] for key in ("id", "name", "supercategory")} for c in categories if c["isthing"]]
        save_json(files / f"instances_{split}2017.json", {**content, "annotations": instances, "categories": things})


def _runs(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths: down the columns, beginning with the pixels outside."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}
