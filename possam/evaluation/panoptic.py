"""Panoptic quality of a model on a dataset and of predictions on disk, in the COCO panoptic format."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.d2.utils import comm
from possam.data.checks import (
    check_files,
    image_size,
    pixel_size,
    require_keys,
    require_list,
    require_unique,
    to_contiguous,
)
from possam.data.coco_format import (
    INSTANCES,
    PANOPTIC,
    check_category,
    check_panoptic_annotation,
    misnamed_categories,
    type_hint,
)
from possam.data.id_maps import areas_and_boxes, check_values, read_id_map, runs, write_id_map
from possam.data.panoptic import load_panoptic, panoptic_vocabulary
from possam.evaluation.groups import class_groups
from possam.evaluation.image_counts import ImageCounts
from possam.evaluation.panoptic_quality import PanopticCounts, count_segments
from possam.evaluation.per_image import PerImageEvaluator
from possam.utils.files import read_json, write_json
from possam.utils.messages import few
from possam.vocabulary import Vocabulary

__all__ = ["PREDICTIONS", "PanopticEvaluator", "panoptic_quality_from_files", "read_output", "read_predictions"]

PREDICTIONS = "panoptic"  # predictions go to <output_dir>/panoptic.json and <output_dir>/panoptic/*.png


class PanopticEvaluator(PerImageEvaluator):
    """PQ, SQ and RQ (`possam.evaluation.panoptic_quality`) over all, thing, stuff, seen and unseen classes.

    Scores ``output["panoptic_seg"]``: an H×W integer tensor of segment ids (0: no segment) at the size of the
    image on disk, and its ``segments_info`` with ``id`` and a contiguous ``category_id``. After `evaluate`,
    ``per_class`` holds the table of `PanopticCounts.table`. Predictions in the COCO panoptic format and the per-class
    table are written to `output_dir`.
    """

    def reset(self) -> None:
        super().reset()
        self.per_class: list[dict[str, Any]] = []

    def score_image(self, image_id: Any, output: Mapping[str, Any]) -> dict[str, Any]:
        ids, segments, classes = read_output(self, image_id, output)
        truth = self.ground_truth.index(image_id)
        # One pass over the pixels: everything after it looks at runs of them.
        starts, pixels = runs(truth, ids)
        source = f"panoptic_seg of image {image_id!r}"
        index = check_values(ids.take(starts), [s["id"] for s in segments], source=source)
        result: dict[str, Any] = {
            "counts": count_segments(
                truth=truth.take(starts),
                truth_classes=self.ground_truth.classes(image_id),
                truth_crowd=self.ground_truth.crowds(image_id),
                truth_areas=self.ground_truth.areas(image_id),
                prediction=index,
                prediction_classes=classes,
                pixels=pixels,
            )
        }
        if self.output_dir is not None:
            extents = areas_and_boxes(index, starts, pixels, width=ids.shape[1], count=len(segments))
            result["annotation"] = self._write_prediction(image_id, ids, segments, *extents)
        return result

    def summarize(self, results: Sequence[Any]) -> dict[str, dict[str, float]]:
        counts = PanopticCounts.total((result["counts"] for result in results), len(self.vocabulary))
        self.per_class = counts.table(self.vocabulary.display_names)
        self.image_counts = ImageCounts.from_images(
            self.image_ids,
            [result["counts"] for result in results],
            class_names=self.vocabulary.display_names,
            groups=self.groups,
        )
        summary = counts.summary(self.groups)
        if self.output_dir is not None:
            self._write_json([result["annotation"] for result in results])
            write_json(
                self.output_dir / "panoptic_quality.json", {**summary, "classes": self.per_class}
            )
        return {"panoptic_seg": summary}

    def _write_prediction(
        self,
        image_id: Any,
        ids: NDArray[np.integer],
        segments: Sequence[Mapping[str, Any]],
        areas: list[int],
        boxes: list[list[int]],
    ) -> dict[str, Any]:
        assert self.output_dir is not None
        # Relative to the dataset's folder of PNGs, so that equal names in two of its subfolders stay two
        # files.
        record, metadata = self.ground_truth.record(image_id), self.ground_truth.metadata
        name = Path(os.path.relpath(record["pan_seg_file_name"], metadata.panoptic_root)).as_posix()
        write_id_map(self.output_dir / PREDICTIONS / name, ids)
        infos = []
        for segment, area, box in zip(segments, areas, boxes, strict=True):
            info = {
                "id": int(segment["id"]),
                "category_id": self.vocabulary.categories[int(segment["category_id"])].dataset_id,
                "area": area,
                "bbox": box,
                "iscrowd": 0,
            }
            infos.append(info | {key: float(segment[key]) for key in ("score", "iou") if key in segment})
        return {"image_id": image_id, "file_name": name, "segments_info": infos}

    def _write_json(self, annotations: list[dict[str, Any]]) -> None:
        assert self.output_dir is not None and comm.is_main_process()
        image_root = self.ground_truth.metadata.image_root
        images = [
            {
                "id": record["image_id"],
                "file_name": Path(os.path.relpath(record["file_name"], image_root)).as_posix(),
                "height": record["height"],
                "width": record["width"],
            }
            for record in map(self.ground_truth.record, (a["image_id"] for a in annotations))
        ]
        categories = [
            {"id": c.dataset_id, "name": c.dataset_name, "isthing": int(c.isthing)}
            for c in self.vocabulary.categories
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_json(self.output_dir / f"{PREDICTIONS}.json", content)


def read_output(
    evaluator: PerImageEvaluator, image_id: Any, output: Mapping[str, Any]
) -> tuple[NDArray[np.integer], list[dict[str, Any]], NDArray[np.int64]]:
    """``output["panoptic_seg"]``: H×W segment ids, segments_info, and the segments' contiguous classes (int64).

    Raises:
        ValueError: there is none, or it has another size than the image on disk, or classes of another vocabulary.
    """
    panoptic, segments = evaluator.output_of(image_id, output, "panoptic_seg")
    ids = panoptic.cpu().numpy()
    evaluator.check_size(image_id, "panoptic_seg", ids.shape)
    classes = np.array([int(segment["category_id"]) for segment in segments], dtype=np.int64)
    outside = classes[(classes < 0) | (classes >= len(evaluator.vocabulary))].tolist()
    if outside:
        raise ValueError(
            f"panoptic_seg of image {image_id!r} has the classes {outside}, but dataset "
            f"{evaluator.ground_truth.name!r} has {len(evaluator.vocabulary)}; "
            "predict with the dataset's vocabulary."
        )
    return ids, segments, classes


def panoptic_quality_from_files(
    *,
    ground_truth_json: str | Path,
    prediction_json: str | Path,
    ground_truth_root: str | Path | None = None,
    prediction_root: str | Path | None = None,
    vocabulary: Vocabulary | None = None,
    train_vocabulary: Vocabulary | None = None,
) -> dict[str, float]:
    """Score predictions in the COCO panoptic format, whoever made them.

    Args:
        ground_truth_json, prediction_json: the annotation files; every annotated image must be predicted.
        ground_truth_root, prediction_root: folders of the PNGs; by default the JSON's path without ".json".
        vocabulary: the classes; by default those of the ground truth's JSON.
        train_vocabulary: gives the seen and unseen groups, or None for none.
    Returns:
        "PQ", "SQ", "RQ", "PQ_th" …, in percent; what `PanopticEvaluator` gives for the same predictions.
    Raises:
        FileNotFoundError, ValueError: files are missing or inconsistent; names file and ids.
    """
    if vocabulary is None:
        vocabulary = panoptic_vocabulary(ground_truth_json, Path(ground_truth_json).stem)
    records = load_panoptic(
        image_root=None,
        panoptic_root=ground_truth_root or Path(ground_truth_json).with_suffix(""),
        panoptic_json=ground_truth_json,
        vocabulary=vocabulary,
    )
    predicted = read_predictions(prediction_json, vocabulary)
    missing = [record["image_id"] for record in records if record["image_id"] not in predicted]
    if missing:
        raise ValueError(
            f"{prediction_json} has no annotation for {len(missing)} images (first: {missing[:5]}); "
            f"predict them all.{type_hint(missing, predicted)}"
        )
    root = Path(prediction_root or Path(prediction_json).with_suffix(""))
    files = [str(root / predicted[record["image_id"]]["file_name"]) for record in records]
    check_files(files, f"panoptic PNGs of {prediction_json}", f"Check prediction_root ({root}).")
    # glibc gives freed memory back to the system, page by page, unless a larger block was freed before; with images of
    # a few MiB this takes as long as everything else.
    np.empty(2**24, dtype=np.uint8)
    images = (_count_files(record, predicted[record["image_id"]], root) for record in records)
    groups = class_groups(vocabulary, train_vocabulary)
    return PanopticCounts.total(images, len(vocabulary)).summary(groups)


def _count_files(record: Mapping[str, Any], annotation: Mapping[str, Any], root: Path) -> NDArray[np.float64]:
    """`count_segments` of one image on disk."""
    truth_path, path = record["pan_seg_file_name"], str(root / annotation["file_name"])
    truth_segments, segments = record["segments_info"], annotation["segments_info"]
    truth, prediction = read_id_map(truth_path), read_id_map(path)
    if truth.shape != image_size(record):
        raise ValueError(
            f"{truth_path} is {pixel_size(truth.shape)}, but its JSON says {pixel_size(image_size(record))} of image "
            f"{record['image_id']!r}; take PNG and JSON from the same export."
        )
    if truth.shape != prediction.shape:
        raise ValueError(
            f"{path} has height×width {prediction.shape}, but {truth_path} has {truth.shape}; "
            "predictions must be at the size of the annotation."
        )
    stuff = {s["id"] for s in truth_segments if not s["isthing"]}
    starts, pixels = runs(truth, prediction)
    return count_segments(
        truth=check_values(truth.take(starts), [s["id"] for s in truth_segments], source=truth_path, hidden=stuff),
        truth_classes=np.array([s["category_id"] for s in truth_segments], dtype=np.int64),
        truth_crowd=np.array([s["iscrowd"] for s in truth_segments], dtype=bool),
        truth_areas=np.array([s.get("area", -1) for s in truth_segments], dtype=np.int64),
        prediction=check_values(prediction.take(starts), [s["id"] for s in segments], source=path),
        prediction_classes=np.array([s["category_id"] for s in segments], dtype=np.int64),
        pixels=pixels,
    )


def _check_categories(categories: Any, vocabulary: Vocabulary, path: str | Path) -> None:
    """ValueError where a prediction file says that its ids are other classes; one without categories is believed."""
    require_list(categories, f"{path}: categories")
    for position, category in enumerate(categories):
        check_category(category, position, f"{path}: ", format=INSTANCES)  # nothing is scored by a prediction's isthing
    wrong = misnamed_categories(categories, vocabulary)
    if wrong:
        raise ValueError(
            f"{path}: its categories are not those of the vocabulary {vocabulary.name!r}: {few(wrong, 3)}. Write the "
            "dataset's category ids, not positions in a list of classes."
        )


def read_predictions(path: str | Path, vocabulary: Vocabulary) -> dict[Any, dict[str, Any]]:
    """Read and check a prediction file in the COCO panoptic format.

    Returns:
        its annotations by image id, whose segments' ``category_id`` is contiguous (a position in `vocabulary`).
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: keys are missing, values have another type, ids occur twice, or a class is not in the vocabulary
            or another one there by the file's own categories; names the file, the image and the segment.
    """
    content = read_json(path)
    require_keys(content, ("annotations",), f"{path}", PANOPTIC)
    annotations = content["annotations"]
    require_list(annotations, f"{path}: annotations")
    for position, annotation in enumerate(annotations):
        check_panoptic_annotation(annotation, position, f"{path}: ", predicted=True)
    _check_categories(content.get("categories") or [], vocabulary, path)
    require_unique((a["image_id"] for a in annotations), f"{path}: predicted image ids")
    require_unique((a["file_name"] for a in annotations), f"{path}: PNG names of annotations")
    result = {}
    for annotation in annotations:
        segments = annotation["segments_info"]
        where = f"{path}: image {annotation['image_id']!r}"
        classes = to_contiguous((segment["category_id"] for segment in segments), vocabulary, where)
        named = [{**segment, "category_id": k} for segment, k in zip(segments, classes, strict=True)]
        result[annotation["image_id"]] = {**annotation, "segments_info": named}
    return result
