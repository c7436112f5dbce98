"""A registered dataset of random panoptic images with void and crowds, and random predictions for it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import id_to_rgb, register_panoptic
from possam.vocabulary import Category, Vocabulary

HEIGHT, WIDTH = 40, 56


def blobs(rng: np.random.Generator, count: int) -> np.ndarray:
    """A map of `count` regions (1 …) around random centers, with holes of 0."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centers = rng.uniform(0, 1, (count, 2)) * (HEIGHT, WIDTH)
    distance = (y[..., None] - centers[:, 0]) ** 2 + (x[..., None] - centers[:, 1]) ** 2
    index = distance.argmin(-1) + 1
    index[rng.uniform(0, 1, (HEIGHT, WIDTH)) < 0.05] = 0
    index[: rng.integers(0, 12)] = 0
    return index


def relabel(index: np.ndarray, ids: list[int]) -> np.ndarray:
    return np.array([0, *ids])[index]


@dataclass
class World:
    """truths, predictions: by image id, H×W ids and segments_info with contiguous classes."""

    name: str
    vocabulary: Vocabulary
    train_vocabulary: Vocabulary
    json_path: Path
    truths: dict[int, tuple[np.ndarray, list[dict[str, Any]]]]
    predictions: dict[int, tuple[np.ndarray, list[dict[str, Any]]]]

    def inputs(self) -> list[dict[str, Any]]:
        return [{"image_id": image_id, "height": HEIGHT, "width": WIDTH} for image_id in self.truths]

    def panoptic_outputs(self) -> list[dict[str, Any]]:
        return [{"panoptic_seg": (torch.from_numpy(ids), infos)} for ids, infos in self.predictions.values()]


def _truth(rng: np.random.Generator) -> tuple[np.ndarray, list[dict[str, Any]]]:
    index = blobs(rng, 9)
    present = np.unique(index[index > 0])
    ids = rng.choice(2**24 - 1, size=9, replace=False) + 1
    infos = [
        {"id": int(ids[i - 1]), "category_id": int(rng.integers(0, 5)), "iscrowd": int(rng.random() < 0.3)}
        for i in present
    ]
    return relabel(index, ids.tolist()), infos


def _prediction(rng, truth) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The truth, shifted and with some regions drawn anew, so that all sorts of matches and misses occur."""
    ids, infos = truth
    known = {info["id"]: i + 1 for i, info in enumerate(infos)}
    index = np.vectorize(lambda value: known.get(value, 0))(ids)
    index = np.roll(index, rng.integers(0, 5), axis=1)
    anew = blobs(rng, 6)
    index = np.where((anew <= 2) & (anew > 0), anew + len(infos), index)
    classes = [info["category_id"] for info in infos] + rng.integers(0, 6, 2).tolist()
    kept = np.unique(index[index > 0])
    segments = []
    for i in kept:
        category = classes[i - 1] if rng.random() < 0.8 else int(rng.integers(0, 6))
        segments.append(
            {"id": int(i), "category_id": category, "isthing": True, "score": float(rng.random())}
        )
    return index.astype(np.int32), segments


@pytest.fixture
def world(tmp_path: Path):
    rng = np.random.default_rng(7)
    # Of 8 classes 0–4 are annotated, 5 is only ever predicted, 6 and 7 never occur.
    vocabulary = Vocabulary(
        name="test_words",
        categories=tuple(
            Category(
                names=(f"class {k}",),
                isthing=k % 2 == 0,
                dataset_id=10 * k + 3,
            )
            for k in range(8)
        ),
    )
    train = Vocabulary.from_names([f"class {k}" for k in (0, 3, 5, 6)], name="train_words")
    truths = {image_id: _truth(rng) for image_id in range(101, 113)}
    truths[113] = (np.zeros((HEIGHT, WIDTH), np.int64), [])
    predictions = {image_id: _prediction(rng, truth) for image_id, truth in truths.items()}
    predictions[112] = (np.zeros((HEIGHT, WIDTH), np.int32), [])
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    for category in vocabulary.categories:
        entry = {"id": category.dataset_id, "name": category.names[0], "isthing": int(category.isthing)}
        content["categories"].append(entry)
    (tmp_path / "images").mkdir()
    (tmp_path / "truth").mkdir()
    for image_id, (ids, infos) in truths.items():
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / f"{image_id}.jpg")
        Image.fromarray(id_to_rgb(ids)).save(tmp_path / "truth" / f"{image_id}.png")
        image = {"id": image_id, "file_name": f"{image_id}.jpg", "height": HEIGHT, "width": WIDTH}
        content["images"].append(image)
        segments = [
            {
                **info,
                "category_id": vocabulary.categories[info["category_id"]].dataset_id,
                "area": int((ids == info["id"]).sum()),
            }
            for info in infos
        ]
        annotation = {"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": segments}
        content["annotations"].append(annotation)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    name = f"random_world_{tmp_path.name}"
    register_panoptic(
        name,
        image_root=tmp_path / "images",
        panoptic_root=tmp_path / "truth",
        panoptic_json=tmp_path / "truth.json",
        vocabulary=vocabulary,
    )
    yield World(name, vocabulary, train, tmp_path / "truth.json", truths, predictions)
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
