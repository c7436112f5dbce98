"""Writes a split of the miniature world in the COCO panoptic format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2

from possam.data.id_maps import write_id_map
from possam.data.miniature.lexicon import Palette, palette_of
from possam.data.miniature.splits import SPLITS, Split, labels_path, split_paths
from possam.data.miniature.world import WORLD_VERSION, draw_scene
from possam.utils.files import opencv_path, read_json, write_json
from possam.utils.processes import end_with_parent
from possam.vocabulary import Vocabulary


def export_split(
    name: str,
    *,
    root: str | Path | None = None,
    scenes: int | None = None,
    processes: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> bool:
    """Draws a split to `<root>/mini/<name>`: `images/*.png`, `panoptic/*.png` and `panoptic.json`; of one of image
    labels `labels.json`, too.

    A split that is there already, in this number of scenes and drawn by this version of the world, is left
    alone; the JSON is written last, so a run that was stopped is simply run again.

    Args:
        name: a key of `SPLITS`.
        root: folder of the datasets; None is $DETECTRON2_DATASETS or `datasets`.
        scenes: number of scenes; None is the split's own.
        processes: number of worker processes; 1 draws in this process.
        progress: called with (scenes done, scenes in all) after every scene.

    Returns:
        whether anything was drawn.

    Raises:
        ValueError: an unknown split, or fewer than one scene or process.
    """
    if name not in SPLITS:
        raise ValueError(f"unknown split {name!r} of the miniature world; valid: {', '.join(SPLITS)}")
    split = SPLITS[name]
    count = split.scenes if scenes is None else scenes
    if count < 1 or processes < 1:
        raise ValueError(f"scenes and processes must be at least 1, got {count} and {processes}")
    paths = split_paths(root, name)
    info = _info(name, split, count)
    if _is_prepared(paths, info):
        return False
    paths["panoptic_json"].unlink(missing_ok=True)
    for key in ("image_root", "panoptic_root"):
        paths[key].mkdir(parents=True, exist_ok=True)
        # Scenes of an earlier, larger export would otherwise stay as strays.
        for stray in paths[key].glob("*.png"):
            stray.unlink()
    vocabulary = Vocabulary.load(split.vocabulary)
    dataset_ids = tuple(category.dataset_id for category in vocabulary.categories)
    write = partial(_write_scene, split.seed, palette_of(vocabulary.display_names), dataset_ids, paths)
    annotations = []
    for annotation in _map(write, count, processes):
        annotations.append(annotation)
        if progress is not None:
            progress(len(annotations), count)
    if split.image_labels:
        write_json(labels_path(root, name), _labels(vocabulary, annotations))
    write_json(paths["panoptic_json"], _content(info, vocabulary, annotations))
    return True


def _info(name: str, split: Split, count: int) -> dict[str, Any]:
    return {
        "description": f"the miniature world, split {name}",
        "world_version": WORLD_VERSION,
        "vocabulary": split.vocabulary,
        "seed": split.seed,
        "scenes": count,
    }


def _is_prepared(paths: dict[str, Path], info: dict[str, Any]) -> bool:
    if not paths["panoptic_json"].is_file() or read_json(paths["panoptic_json"]).get("info") != info:
        return False
    folders = (paths["image_root"], paths["panoptic_root"])
    return all(len(list(folder.glob("*.png"))) == info["scenes"] for folder in folders)


def _start_worker() -> None:
    end_with_parent()
    cv2.setNumThreads(1)


def _map(write: Callable[[int], dict[str, Any]], count: int, processes: int) -> Iterator[dict[str, Any]]:
    if processes == 1:
        yield from map(write, range(count))
        return
    # "spawn", because a fork of a process that has started threads (OpenCV, torch) may hang.
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start_worker) as pool:
        yield from pool.map(write, range(count), chunksize=16)


def _write_scene(
    seed: int, palette: Palette, dataset_ids: tuple[int, ...], paths: dict[str, Path], index: int
) -> dict[str, Any]:
    """Draws and writes one scene; returns its annotation, with the image's size beside it."""
    scene = draw_scene([seed, index], palette)
    file_name = f"{index:06d}.png"
    target = paths["image_root"] / file_name
    if not cv2.imwrite(opencv_path(target), scene.image[..., ::-1]):
        raise OSError(f"cannot write {target}")
    write_id_map(paths["panoptic_root"] / file_name, scene.ids)
    segments = [
        {
            "id": segment.id,
            "category_id": dataset_ids[palette.class_of[segment.kind]],
            "area": segment.area,
            "bbox": list(segment.bbox),
            "iscrowd": 0,
        }
        for segment in scene.segments
    ]
    return {"image_id": index + 1, "file_name": file_name, "segments_info": segments, "size": scene.ids.shape}


def _labels(vocabulary: Vocabulary, annotations: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The names of the classes that each image shows."""
    names = {category.dataset_id: category.names[0] for category in vocabulary.categories}
    shown = ({segment["category_id"] for segment in one["segments_info"]} for one in annotations)
    return {
        one["file_name"]: [names[number] for number in sorted(ids)]
        for one, ids in zip(annotations, shown, strict=True)
    }


def _content(
    info: dict[str, Any], vocabulary: Vocabulary, annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    images = []
    for annotation in annotations:
        height, width = annotation.pop("size")
        file_name, number = annotation["file_name"], annotation["image_id"]
        images.append({"id": number, "file_name": file_name, "height": height, "width": width})
    categories = [
        {
            "id": category.dataset_id,
            "name": category.names[0],
            "isthing": int(category.isthing),
            "supercategory": "thing" if category.isthing else "stuff",
        }
        for category in vocabulary.categories
    ]
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}
