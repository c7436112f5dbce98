"""ADE20K, release of 17 January 2021: every image with its segmentation, by scene."""

from pathlib import Path

import numpy as np

from tests.layouts.drawing import Size, classes_of, recolor, save_json, save_lines, save_map, save_photo, scene

# Ids of the release: wall, building, sky; bed, person, adding machine; one that is none of the 847 classes.
STUFF = (2978, 312, 2420)
THINGS = (165, 1831, 3148, 5)


def make_ade20k_full(root: Path, *, images: int = 2, size: Size = (24, 32)) -> None:
    """ADE20K_2021_17_01/images/ADE/{training,validation}/<scene>/<place>/ADE_*.jpg, *_seg.png and companions."""
    ade = root / "ADE20K_2021_17_01"
    for split, short in (("training", "train"), ("validation", "val")):
        for number in range(1, images + 1):
            place = ("urban/street", "home_or_hotel/bedroom")[number % 2]
            folder, name = ade / "images/ADE" / split / place, f"ADE_{short}_{number:08d}"
            index = scene(number, size)
            classes = recolor(index, classes_of(number, STUFF, THINGS), 0, np.int64)
            save_photo(folder / f"{name}.jpg", number, size)
            save_map(
                folder / f"{name}_seg.png", np.stack([classes // 256 * 10, classes % 256, index], -1).astype(np.uint8)
            )
            save_map(folder / f"{name}_parts_1.png", np.zeros((*size, 3), dtype=np.uint8))
            save_map(folder / name / f"instance_000_{name}.png", (index == 3).astype(np.uint8))
            save_json(folder / f"{name}.json", {"annotation": {"filename": f"{name}.jpg"}})
    (ade / "index_ade20k.pkl").write_bytes(b"never opened")
    save_lines(ade / "objects.txt", ["made up"])
