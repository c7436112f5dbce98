"""ADE20K's scene parsing challenge: images, label maps of 150 classes and the maps of 100 instance classes."""

from pathlib import Path

import numpy as np

from tests.layouts.drawing import Size, boxes, classes_of, recolor, save_lines, save_map, save_photo, scene

# Ids of the label maps, and of the same things in the instance maps: bed, person, car, flag.
STUFF = (1, 3, 5, 141)
THINGS = {8: 1, 13: 4, 21: 9, 150: 100}


def make_ade20k(root: Path, *, images: int = 2, size: Size = (24, 32)) -> None:
    """ADEChallengeData2016/{images,annotations,annotations_instance}/{training,validation} and objectInfo150.txt.

    As in the official files, instances reach a little over the things of the label maps.
    """
    ade = root / "ADEChallengeData2016"
    for split, short, first in (("training", "train", 1), ("validation", "val", 1)):
        for number in range(first, first + images):
            name = f"{split}/ADE_{short}_{number:08d}"
            index, classes = scene(number, size), classes_of(number, STUFF, tuple(THINGS))
            save_photo(ade / "images" / f"{name}.jpg", number, size)
            save_map(ade / "annotations" / f"{name}.png", recolor(index, classes, 0, np.uint8))
            instances = np.zeros((*size, 3), dtype=np.uint8)
            for serial, (region, (top, left, bottom, right)) in enumerate(boxes(number, size).items(), start=1):
                instances[top - 1 : bottom, left:right, 0] = THINGS[classes[region - 1]]
                instances[top - 1 : bottom, left:right, 1] = serial
            save_map(ade / "annotations_instance" / f"{name}.png", instances)
    save_lines(ade / "objectInfo150.txt", ["Idx\tRatio\tTrain\tVal\tStuff\tName"])
