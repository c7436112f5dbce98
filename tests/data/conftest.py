"""A panoptic dataset of a few made-up images on disk."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.vocabulary import Vocabulary

CATEGORIES = [
    {"id": 5, "name": "disc", "isthing": 1},
    {"id": 9, "name": "grass", "isthing": 0},
    {"id": 70, "name": "star", "isthing": 1},
]
# Ids of all three bytes, so that a map squeezed through 8 or 16 bits shows.
IDS = (3, 70_000, 16_777_215, 65_536)


def encode(ids: np.ndarray) -> np.ndarray:
    """Ids → RGB, written out by hand."""
    rgb = np.zeros((*ids.shape, 3), dtype=np.uint8)
    for y, x in np.ndindex(ids.shape):
        value = int(ids[y, x])
        rgb[y, x] = (value % 256, value // 256 % 256, value // 65536)
    return rgb


@pytest.fixture
def clean_catalogs():
    """Names registered by the test are forgotten after it, and those it moved are where they were."""
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


@pytest.fixture
def vocabulary() -> Vocabulary:
    """disc (id 5) and star (id 70) are things, grass (id 9) is stuff; contiguous ids are the order of `CATEGORIES`."""
    return Vocabulary.from_coco_categories(CATEGORIES, "made_up")


@pytest.fixture
def vocabulary_file(vocabulary, tmp_path) -> str:
    """The same as a JSON file."""
    vocabulary.to_json(tmp_path / "words.json")
    return str(tmp_path / "words.json")


@pytest.fixture
def dataset(tmp_path: Path) -> dict:
    """Two images of 24×16 (width×height); the second has nothing but a crowd."""
    rng = np.random.default_rng(0)
    ids = np.zeros((16, 24), dtype=np.int64)
    ids[:, :10] = IDS[0]
    ids[2:9, 12:20] = IDS[1]
    ids[4:6, 14:16] = IDS[2]
    ids[12:, 18:] = IDS[3]
    crowd = np.zeros((16, 24), dtype=np.int64)
    crowd[3:8, 3:9] = 11
    segments = [
        {"id": IDS[0], "category_id": 9, "iscrowd": 0, "area": 160},
        {"id": IDS[1], "category_id": 5, "iscrowd": 0, "area": 52},
        {"id": IDS[2], "category_id": 70, "iscrowd": 0, "area": 4},
        {"id": IDS[3], "category_id": 5, "iscrowd": 1, "area": 24},
    ]
    content = {"images": [], "annotations": [], "categories": CATEGORIES}
    for number, (pixels, infos) in enumerate(
        [(ids, segments), (crowd, [{"id": 11, "category_id": 70, "iscrowd": 1}])], start=1
    ):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "panoptic").mkdir(exist_ok=True)
        picture = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(encode(pixels)).save(tmp_path / "panoptic" / f"p{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "height": 16, "width": 24})
        content["annotations"].append(
            {"image_id": number, "file_name": f"p{number}.png", "segments_info": infos}
        )
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    return {
        "content": content,
        "ids": ids,
        "paths": {
            "image_root": tmp_path / "images",
            "panoptic_root": tmp_path / "panoptic",
            "panoptic_json": tmp_path / "panoptic.json",
        },
    }


@pytest.fixture
def coco_sample() -> Path:
    """The two images of the COCO panoptic API's examples, where this machine has them."""
    places = [
        os.environ.get("POSSAM_COCO_SAMPLE"),
        Path(__file__).parents[3] / "shared/data/coco_panoptic_sample",
    ]
    for place in places:
        if place and (Path(place) / "panoptic_examples.json").is_file():
            return Path(place)
    pytest.skip("no COCO panoptic sample: set POSSAM_COCO_SAMPLE to the folder of panoptic_examples.json")
