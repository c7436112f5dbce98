"""Mapillary Vistas 1.2: pictures, labels, instances and the panoptic annotation, which are used as they are."""

from pathlib import Path

import numpy as np

from tests.layouts.drawing import (
    Size,
    classes_of,
    recolor,
    save_ids,
    save_json,
    save_map,
    save_photo,
    scene,
    segments_of,
)

# Values of the label maps: sky, road, vegetation; person, car, bird. 65 is unlabeled; a category id is one more.
STUFF = (27, 13, 30)
THINGS = (19, 55, 0)
UNLABELED = 65


def make_mapillary(root: Path, *, images: int = 2, size: Size = (24, 32)) -> None:
    """mapillary_vistas/{training,validation}/{images,labels,instances,panoptic} with panoptic_2018.json."""
    for split, letter in (("training", "t"), ("validation", "v")):
        folder = root / "mapillary_vistas" / split
        infos, annotations = [], []
        for number in range(images):
            name = f"{letter}Aq{number:02d}-xK_w9"
            index, values = scene(number, size), classes_of(number, STUFF, THINGS)
            save_photo(folder / "images" / f"{name}.jpg", number, size)
            labels = recolor(index, values, UNLABELED, np.uint8)
            save_map(folder / "labels" / f"{name}.png", labels, palette=True)
            save_map(folder / "instances" / f"{name}.png", labels.astype(np.uint16) * 256)
            ids = [8_405_120 + number, 39_129, 2_572_000, 513]
            save_ids(folder / "panoptic" / f"{name}.png", recolor(index, ids, 0, np.int64))
            infos.append({"id": name, "file_name": f"{name}.jpg", "height": size[0], "width": size[1]})
            segments = segments_of(index, ids, [value + 1 for value in values])
            annotations.append({"image_id": name, "file_name": f"{name}.png", "segments_info": segments})
        categories = [{"id": n + 1, "name": f"class {n}", "isthing": int(n in THINGS)} for n in range(UNLABELED)]
        content = {"images": infos, "annotations": annotations, "categories": categories}
        save_json(folder / "panoptic" / "panoptic_2018.json", content)
