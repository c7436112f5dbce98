"""Small trees of datasets, and hands to plant faults in them."""

import json
from dataclasses import replace

import numpy as np
from PIL import Image

from possam.data.datasets import find_spec
from possam.data.doctor import examine
from tests.layouts import make_ade20k

PANOPTIC = "coco/annotations/panoptic_val2017.json"
INSTANCES = "coco/annotations/instances_val2017.json"
IMAGE = "coco/val2017/000000000201.jpg"
PNG = "coco/panoptic_val2017/000000000201.png"

LABEL_MAP = "annotations_detectron2/validation/ADE_val_00000001.png"
IMAGES = 2


def problems_of(name, root, *, images=IMAGES, **options):
    return examine(replace(find_spec(name), images=images), root, **options)


def the_problem(name, root, **options):
    found = problems_of(name, root, **options)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(path, share=0.7):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def resize(path, size):
    with Image.open(path) as picture:
        picture.resize(size, Image.Resampling.NEAREST).save(path)


def paint(path, color):
    """One pixel of another color, which the image's void border has room for."""
    pixels = np.array(Image.open(path))
    pixels[0, 0] = color
    save(path, pixels)


def prepare_ade(root, convert, images=IMAGES):
    """Label maps made from the official ones by `convert`."""
    make_ade20k(root, images=images)
    ade = root / "ADEChallengeData2016"
    for official in sorted((ade / "annotations/validation").glob("*.png")):
        pixels = convert(np.array(Image.open(official)))
        save(ade / "annotations_detectron2/validation" / official.name, pixels)
    return ade


def as_it_should(official):
    return (official - 1).astype(np.uint8)
