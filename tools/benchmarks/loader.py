"""A training sample with panoptic targets: this project's mapper against the field's, on photos of COCO's size.

H×W 640×480 (width×height) on disk, 15 segments, large-scale jitter to 1024×1024; both sides draw the same numbers.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.case import Case, Work
from possam.data import SegmentationMapper, build_augmentations, write_id_map
from possam.vocabulary import Vocabulary
from tests.reference.classic_mapper import classic_sample

_IMAGES, _SAMPLES, _SEGMENTS, _SIDE = 4, 16, 15, 1024
_HEIGHT, _WIDTH = 480, 640
_REFERENCE = "the classic mapper (tests/reference)"


def cases(device: str) -> list[Case]:
    """Time of 16 samples: as a loading process makes them, and with the way to the process that trains."""
    sizes = f"16 samples, {_WIDTH}×{_HEIGHT}, {_SEGMENTS} segments, LSJ {_SIDE}²"
    return [
        Case(
            name=sizes,
            reference=_REFERENCE,
            ours=lambda: _work(_ours(), lambda sample: sample),
            theirs=lambda: _work(_theirs, lambda sample: sample),
            error=_gray_levels,
            tolerance=2.0,
            time_target=0.5,
        ),
        Case(
            name=f"{sizes}, sent to another process",
            reference=_REFERENCE,
            ours=lambda: _work(_ours(), _sent),
            theirs=lambda: _work(_theirs, _sent),
            time_target=0.5,
        ),
    ]


@cache
def _records() -> list[dict[str, Any]]:
    folder = Path(tempfile.gettempdir()) / "possam-benchmark-loader"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return [_record(folder, number) for number in range(_IMAGES)]


def _record(folder: Path, number: int) -> dict[str, Any]:
    """A photo-like picture and its segments: wavy regions, each of its own color, under noise of all scales."""
    rng = np.random.default_rng(number)
    nearest = np.argmax([_smooth(rng, 6) for _ in range(_SEGMENTS)], axis=0)
    kept = np.unique(nearest)
    ids = rng.choice(2**24 - 1, _SEGMENTS, replace=False) + 1
    noise = sum(_smooth(rng, cells) * 12 for cells in (10, 40, 160, 320))
    colors = rng.integers(40, 216, (_SEGMENTS, 3))[nearest] + np.asarray(noise)[..., None]
    photo, png = folder / f"{number}.jpg", folder / f"{number}.png"
    Image.fromarray(colors.clip(0, 255).astype(np.uint8)).save(photo, quality=92)
    write_id_map(png, ids[nearest])
    segments = [{"id": int(ids[k]), "category_id": int(k), "isthing": True, "iscrowd": False} for k in kept]
    size = {"height": _HEIGHT, "width": _WIDTH}
    files = {"file_name": str(photo), "pan_seg_file_name": str(png)}
    return {**files, **size, "image_id": number, "segments_info": segments}


def _smooth(rng: np.random.Generator, cells: int) -> np.ndarray:
    coarse = Image.fromarray(rng.normal(size=(cells * _HEIGHT // _WIDTH, cells)).astype(np.float32))
    return np.asarray(coarse.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC))


def _ours() -> Callable[[dict[str, Any]], Any]:
    augmentations = build_augmentations(image_size=_SIDE, is_train=True, mode="lsj")
    vocabulary = Vocabulary.load("coco_panoptic")
    return SegmentationMapper(augmentations=augmentations, is_train=True, vocabulary=vocabulary)


def _theirs(record: dict[str, Any]) -> dict[str, Any]:
    return classic_sample(record, size=_SIDE)


def _work(mapper: Callable[[dict[str, Any]], Any], then: Callable[[Any], Any]) -> Work:
    records = _records()

    def work() -> list[Any]:
        np.random.seed(0)
        return [then(mapper(records[number % _IMAGES])) for number in range(_SAMPLES)]

    return work


def _sent(sample: dict[str, Any]) -> Any:
    """As PyTorch's loading processes hand over tensors, through shared memory."""
    ForkingPickler.loads(bytes(ForkingPickler.dumps(sample)))


def _gray_levels(ours: Iterable[dict[str, Any]], theirs: Iterable[dict[str, Any]]) -> float:
    """Largest difference of the pixels; infinite where masks or classes differ, but for targets without a pixel."""
    largest = 0.0
    for one, other in zip(ours, theirs, strict=True):
        masks, classes = one["instances"].gt_masks.tensor, one["instances"].gt_classes
        height, width = masks.shape[1:]  # the field pads here, this project on the device
        left = other["gt_masks"].any(2).any(1)
        there = other["gt_masks"][left][:, :height, :width]
        same = torch.equal(there, masks) and torch.equal(other["gt_classes"][left], classes)
        difference = (one["image"].int() - other["image"][:, :height, :width].int()).abs().max()
        largest = max(largest, float(difference) if same else math.inf)
    return largest
