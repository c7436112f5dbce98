"""Panoptic quality of 500 images against the algorithm of the COCO panoptic API (tests/reference/panoptic_quality.py),
and of a few against torchmetrics where it is installed.

Scenes of 640×480 pixels with 12 annotated segments, wavy and frayed borders, void and crowds. Annotations are written
as COCO's were, by Pillow, and predictions as `PanopticEvaluator` writes them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.case import Case, Work
from possam.data import id_maps
from possam.data.id_maps import check_ids, check_values, id_to_rgb, read_id_map, runs, write_id_map
from possam.evaluation.panoptic import panoptic_quality_from_files
from possam.evaluation.panoptic_quality import PanopticCounts, count_segments
from possam.utils.files import read_json
from possam.vocabulary import Vocabulary
from tests.reference import panoptic_quality as reference

_IMAGES, _CLASSES, _SEGMENTS = 500, 133, 12
_IN_MEMORY, _WITHOUT_CROWDS = 100, 10
_HEIGHT, _WIDTH = 480, 640
# Scenes are of whoever draws them: this file and what writes id maps.
_SOURCES = [Path(file).read_bytes() for file in (__file__, id_maps.__file__)]
_FOLDER = Path(tempfile.gettempdir()) / f"possam-benchmark-pq-{hashlib.sha256(b''.join(_SOURCES)).hexdigest()[:12]}"

Result = dict[str, float]


def cases(device: str) -> list[Case]:
    """From files on disk, and from decoded maps of ids. Both run on the CPU whatever the device."""
    against = f"COCO API's algorithm, NumPy {np.__version__}"
    return [
        Case(
            name=f"PQ of {_IMAGES} images 640×480 from PNG",
            reference=against,
            ours=_files,
            theirs=_their_files,
            error=_difference,
            tolerance=1e-12,  # the IoU of an image's matches are added in another order
            time_target=0.4,
        ),
        Case(
            name=f"PQ of {_IN_MEMORY} images 640×480 in memory",
            reference=against,
            ours=_memory,
            theirs=_their_memory,
            error=_difference,
            tolerance=1e-12,
            time_target=0.17,
        ),
        *_cases_of_torchmetrics(),
    ]


def _cases_of_torchmetrics() -> list[Case]:
    if importlib.util.find_spec("torchmetrics") is None:
        return []
    return [
        Case(
            name=f"PQ of {_WITHOUT_CROWDS} images 640×480 in memory, without crowds",
            reference=f"torchmetrics {version('torchmetrics')}",
            ours=_memory_without_crowds,
            theirs=_torchmetrics,
            error=_difference,
            tolerance=1e-6,  # it divides in float32
        )
    ]


def _difference(ours: Result, theirs: Result) -> float:
    assert ours.keys() == theirs.keys()
    return max(abs(ours[key] - theirs[key]) for key in ours)


@cache
def _scenes() -> Path:
    """The folder of both JSONs and all PNGs, made once on a machine."""
    if (_FOLDER / "prediction.json").is_file():
        return _FOLDER
    shutil.rmtree(_FOLDER, ignore_errors=True)
    for side in ("truth", "prediction"):
        (_FOLDER / side).mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, truths, predictions = [], [], []
    for number in range(_IMAGES):
        name = f"{number:04}.png"
        truth, classes = _regions(rng), rng.integers(1, _CLASSES + 1, 2 * _SEGMENTS)
        other = _regions(rng)
        prediction = np.where(other < 3, other + _SEGMENTS, np.roll(truth, (2, 3), axis=(0, 1)))
        truth[truth == 1] = 0
        ids, segments = _annotate(rng, truth, classes)
        Image.fromarray(id_to_rgb(ids)).save(_FOLDER / "truth" / name)
        truths.append({"image_id": number, "file_name": name, "segments_info": segments})
        segments[-1]["iscrowd"] = number % 4 // 3
        ids, segments = _annotate(rng, prediction, classes)
        write_id_map(_FOLDER / "prediction" / name, ids)
        predictions.append({"image_id": number, "file_name": name, "segments_info": segments})
        images.append({"id": number, "file_name": name, "height": _HEIGHT, "width": _WIDTH})
    categories = [{"id": k, "name": f"class {k}", "isthing": int(k <= 80)} for k in range(1, _CLASSES + 1)]
    for side, segments_of_images in (("truth", truths), ("prediction", predictions)):
        content = {"images": images, "annotations": segments_of_images, "categories": categories}
        (_FOLDER / f"{side}.json").write_text(json.dumps(content))
    return _FOLDER


def _regions(rng: np.random.Generator) -> NDArray[np.int64]:
    """H×W, 1 to 12: the nearest of 12 centers, seen through waves and noise."""
    y, x = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.float32)
    y, x = y + 8 * np.sin(x / 23), x + 8 * np.sin(y / 31)
    y += 0.8 * rng.standard_normal(y.shape, dtype=np.float32)
    centers = rng.uniform(0, 1, (_SEGMENTS, 2)) * (_HEIGHT, _WIDTH)
    distances = np.stack([(y - row) ** 2 + (x - column) ** 2 for row, column in centers])
    return distances.argmin(axis=0) + 1


def _annotate(
    rng: np.random.Generator, index: NDArray[np.int64], classes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Random ids of three bytes in place of the regions' numbers, and what the JSON says of them."""
    ids = np.concatenate([[0], rng.choice(256**3 - 1, size=2 * _SEGMENTS, replace=False) + 1])
    areas = np.bincount(index.ravel(), minlength=len(ids))
    segments = [
        {"id": int(ids[i]), "category_id": int(classes[i - 1]), "area": int(areas[i]), "iscrowd": 0}
        for i in np.flatnonzero(areas)
        if i > 0
    ]
    return ids[index], segments


def _files() -> Work:
    folder = _scenes()
    return lambda: panoptic_quality_from_files(
        ground_truth_json=folder / "truth.json", prediction_json=folder / "prediction.json"
    )


def _their_files() -> Work:
    folder = _scenes()

    def work() -> Result:
        truths, predictions = (read_json(folder / f"{side}.json") for side in ("truth", "prediction"))
        pairs = zip(truths["annotations"], predictions["annotations"], strict=True)
        images = (
            reference.count_image(
                reference.read_png(folder / "truth" / truth["file_name"]),
                truth["segments_info"],
                reference.read_png(folder / "prediction" / prediction["file_name"]),
                prediction["segments_info"],
            )
            for truth, prediction in pairs
        )
        return _summary(_as_counts(reference.total(images)), truths["categories"])

    return work


def _loaded() -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
    """Maps and segments of both sides, image by image, and the categories."""
    folder = _scenes()
    truths, predictions = (read_json(folder / f"{side}.json") for side in ("truth", "prediction"))
    pairs = zip(truths["annotations"][:_IN_MEMORY], predictions["annotations"], strict=False)
    images = [
        (
            read_id_map(folder / "truth" / truth["file_name"]),
            truth["segments_info"],
            read_id_map(folder / "prediction" / prediction["file_name"]),
            prediction["segments_info"],
        )
        for truth, prediction in pairs
    ]
    return images, truths["categories"]


def _memory() -> Work:
    images, categories = _loaded()
    return lambda: _summary(PanopticCounts.total((_count(*image) for image in images), _CLASSES), categories)


def _count(truth: Any, truth_segments: Any, prediction: Any, segments: Any) -> NDArray[np.float64]:
    starts, pixels = runs(truth, prediction)
    return count_segments(
        truth=check_values(truth.take(starts), [s["id"] for s in truth_segments], source="truth"),
        truth_classes=np.array([s["category_id"] - 1 for s in truth_segments]),
        truth_crowd=np.array([s["iscrowd"] for s in truth_segments], dtype=bool),
        truth_areas=np.array([s["area"] for s in truth_segments]),
        prediction=check_values(prediction.take(starts), [s["id"] for s in segments], source="prediction"),
        prediction_classes=np.array([s["category_id"] - 1 for s in segments]),
        pixels=pixels,
    )


def _their_memory() -> Work:
    images, categories = _loaded()
    return lambda: _summary(_as_counts(reference.total(reference.count_image(*image) for image in images)), categories)


def _memory_without_crowds() -> Work:
    images, categories = _without_crowds()
    return lambda: _summary(PanopticCounts.total((_count(*image) for image in images), _CLASSES), categories)


def _torchmetrics() -> Work:
    from torchmetrics.detection import PanopticQuality

    images, categories = _without_crowds()
    # maps of (class, id); all classes are taken for things, since of stuff it joins the segments of a class
    encoded = [(_encode(*image[2:])[None], _encode(*image[:2])[None]) for image in images]

    def work() -> Result:
        metric = PanopticQuality(
            things=set(range(1, _CLASSES + 1)), stuffs=set(), allow_unknown_preds_category=True
        )
        for prediction, truth in encoded:
            metric.update(prediction, truth)
        sums = (metric.iou_sum, metric.true_positives, metric.false_positives, metric.false_negatives)
        iou, tp, fp, fn = (x.numpy() for x in sums)
        return _summary(PanopticCounts(iou=iou, tp=tp, fp=fp, fn=fn), categories)

    return work


def _without_crowds() -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
    images, categories = _loaded()
    return [image for image in images if not any(s["iscrowd"] for s in image[1])][:_WITHOUT_CROWDS], categories


def _encode(ids: NDArray[np.int32], segments: list[dict[str, Any]]) -> Tensor:
    places = check_ids(ids, [s["id"] for s in segments], source="map")
    classes = np.array([0, *(s["category_id"] for s in segments)])
    return torch.from_numpy(np.stack([classes[places], ids], axis=-1))


def _as_counts(counts: reference.Counts) -> PanopticCounts:
    table = np.array([counts.get(k, (0.0, 0, 0, 0)) for k in range(1, _CLASSES + 1)])
    tp, fp, fn = table[:, 1:].T.astype(np.int64)
    return PanopticCounts(iou=table[:, 0], tp=tp, fp=fp, fn=fn)


def _summary(counts: PanopticCounts, categories: list[dict[str, Any]]) -> Result:
    things = np.array(Vocabulary.from_coco_categories(categories, "benchmark").isthing)
    return counts.summary({"": np.ones_like(things), "_th": things, "_st": ~things})
