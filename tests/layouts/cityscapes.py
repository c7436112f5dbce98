"""Cityscapes: pictures, and the fine annotation as polygons, label ids and instance ids."""

from pathlib import Path

import numpy as np

from tests.layouts.drawing import Size, boxes, save_json, save_map, save_photo, scene

NAMES = {7: "road", 23: "sky", 21: "vegetation", 26: "car", 24: "person", 29: "caravan"}


def make_cityscapes(root: Path, *, images: int = 2, size: Size = (24, 32)) -> None:
    """cityscapes/leftImg8bit/{train,val}/<city>/*.png and gtFine/{train,val}/<city>/*.{png,json}.

    The left edge is the ego vehicle (id 1), of the two things the first is a car and the second a group of
    persons in even images, a caravan, which is not scored, in odd ones. A license plate has id −1: not drawn.
    """
    city_of = {"train": ("aachen", "zurich"), "val": ("frankfurt", "munster")}
    for split, cities in city_of.items():
        for number in range(images):
            name = f"{cities[number % 2]}_{number:06d}_000019"
            folder = Path(split) / cities[number % 2]
            save_photo(root / "cityscapes/leftImg8bit" / folder / f"{name}_leftImg8bit.png", number, size)
            start = root / "cityscapes/gtFine" / folder / f"{name}_gtFine"
            index, second = scene(number, size), (24, 29)[number % 2]
            labels = np.array([1, 23, 7, 26, second])[index]
            instances = np.array([1, 23, 7, 26_000 + 300 * number, 29_000 if number % 2 else 24])[index]
            save_map(start.with_name(f"{start.name}_labelIds.png"), labels.astype(np.uint8))
            save_map(start.with_name(f"{start.name}_instanceIds.png"), instances.astype(np.uint16))
            save_map(start.with_name(f"{start.name}_color.png"), np.zeros((*size, 4), dtype=np.uint8))
            save_json(start.with_name(f"{start.name}_polygons.json"), _polygons(number, size))


def _polygons(number: int, size: Size) -> dict:
    height, width = size
    things = boxes(number, size)
    objects = [
        ("sky", (0, 0, height // 2, width)),
        ("road", (height // 2, 0, height, width)),
        ("ego vehicle", (0, 0, height, 2)),
        ("car", things[3]),
        (("persongroup", "caravan")[number % 2], things[4]),
        ("license plate", things[3]),
    ]
    return {
        "imgHeight": height,
        "imgWidth": width,
        "objects": [
            {"label": label, "polygon": [[x0, y0], [x1 - 1, y0], [x1 - 1, y1 - 1], [x0, y1 - 1]]}
            for label, (y0, x0, y1, x1) in objects
        ],
    }
