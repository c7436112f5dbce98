"""An evaluation as it lies on disk, with the dataset that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data import read_id_map, read_rgb, register_from_config
from possam.data.checks import is_number, require_keys, require_list
from possam.data.datasets import register_datasets, use_class_names
from possam.data.id_maps import check_ids
from possam.data.miniature.splits import register_miniature
from possam.evaluation.ground_truth import GroundTruth
from possam.evaluation.panoptic import PREDICTIONS, read_predictions
from possam.report.review import ImageReview, review_image
from possam.utils.files import read_json, read_yaml
from possam.vocabulary import Vocabulary

__all__ = ["EvaluationFolder"]

_TABLE = "panoptic_quality.json"
_MEASURES = ("PQ", "SQ", "RQ", "TP", "FP", "FN")


class EvaluationFolder:
    """What an evaluation wrote under OUTPUT_DIR/evaluation/<dataset>.

    Attributes:
        results: metrics by task, perhaps "compare", "dataset" and "provenance" (results.json).
        ground_truth: the dataset's annotation.
        seen: whether training showed each class; None where nothing says what the training vocabulary was.
    """

    def __init__(
        self, folder: str | Path, *, dataset: str | None = None, train_vocabulary: Vocabulary | None = None
    ) -> None:
        """
        Args:
            folder: with a results.json.
            dataset: the name it is registered under; by default what results.json says, or the folder's name.
            train_vocabulary: what the model was trained on; by default what the evaluation says.

        Raises:
            FileNotFoundError, ValueError: this is no folder of an evaluation, or the dataset is not known.
        """
        self.folder = Path(folder)
        if not (self.folder / "results.json").is_file():
            raise FileNotFoundError(
                f"{self.folder} has no results.json; give a folder OUTPUT_DIR/evaluation/<dataset> that an evaluation "
                "wrote (tools/train_net.py --eval-only)."
            )
        self.results = read_json(self.folder / "results.json")
        for key in ("dataset", "provenance", "compare", "panoptic_seg", "iou_head", "bootstrap"):
            _require_object(self.results.get(key) or {}, f"{self.folder / 'results.json'}: {key}")
        _check_bootstrap(self.results.get("bootstrap") or {}, self.folder / "results.json")
        about = self.results.get("dataset") or {}
        name = dataset or about.get("name") or self.folder.resolve().name
        self._register(name)
        self.ground_truth = GroundTruth(name)
        self.vocabulary = self.ground_truth.vocabulary
        unseen = about.get("unseen") if train_vocabulary is None else None  # the configuration may name another
        trained_on = train_vocabulary or self._train_vocabulary()
        self.seen = self.vocabulary.seen(trained_on) if trained_on is not None else None
        if isinstance(unseen, list):
            self.seen = tuple(name not in unseen for name in self.vocabulary.display_names)

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """The configuration that made the results, as plain data; None where it was not kept."""
        kept = (self.results.get("provenance") or {}).get("config")
        beside = self.folder.resolve().parent.parent / "config.yaml"
        if kept is None and beside.is_file():
            kept = read_yaml(beside)
        return kept if isinstance(kept, dict) else None

    @cached_property
    def predictions(self) -> dict[Any, dict[str, Any]]:
        """Predictions in the COCO panoptic format by image id, with contiguous classes; empty where the evaluation was
        not panoptic.

        Raises:
            ValueError: as `read_predictions`; or an expected IoU is not a number.
        """
        path = self.folder / f"{PREDICTIONS}.json"
        if not path.is_file():
            return {}
        found = read_predictions(path, self.vocabulary)
        for image_id, annotation in found.items():
            for segment in annotation["segments_info"]:
                if not (segment.get("iou") is None or is_number(segment["iou"])):
                    raise ValueError(
                        f"{path}: image {image_id!r}: iou of segment {segment['id']} must be a number, but is "
                        f"{segment['iou']!r:.80}; evaluate again."
                    )
        return found

    @cached_property
    def class_rows(self) -> list[dict[str, Any]]:
        """ "name", "PQ", "SQ", "RQ" (percent or None), "TP", "FP", "FN" of every class; empty without predictions.

        Raises:
            ValueError: they are of another vocabulary than the dataset's.
        """
        path = self.folder / "panoptic_quality.json"
        if not path.is_file():
            return []
        content = read_json(path)
        require_keys(content, ("classes",), f"{path}", _TABLE)
        rows: list[dict[str, Any]] = content["classes"]
        require_list(rows, f"{path}: classes")
        for position, row in enumerate(rows):
            require_keys(row, ("name", *_MEASURES), f"{path}: classes[{position}]", _TABLE)
            if not all(row[key] is None or is_number(row[key]) for key in _MEASURES):
                raise ValueError(f"{path}: classes[{position}] has values that are not numbers: {row!r:.200}.")
        if [row["name"] for row in rows] != list(self.vocabulary.display_names):
            raise ValueError(
                f"{path} has {len(rows)} classes that are not those of the dataset {self.ground_truth.name!r}; name "
                "the dataset that was evaluated, or evaluate again."
            )
        return rows

    def files(self, image_id: Any) -> dict[str, Path]:
        """The files of an image: "image", "annotation" and "prediction"."""
        record = self.ground_truth.record(image_id)
        return {
            "image": Path(record["file_name"]),
            "annotation": Path(record["pan_seg_file_name"]),
            "prediction": self.folder / PREDICTIONS / self.predictions[image_id]["file_name"],
        }

    def image(self, image_id: Any) -> NDArray[np.uint8]:
        """H×W×3 uint8 RGB."""
        return read_rgb(self.ground_truth.record(image_id)["file_name"])

    def truth(self, image_id: Any) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """H×W, ``i + 1`` for segment i and 0 for void; and the segments."""
        return self.ground_truth.index(image_id), self.ground_truth.segments(image_id)

    def prediction(self, image_id: Any) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """H×W, ``j + 1`` for predicted segment j and 0 for none; and the segments, with contiguous classes.

        Raises:
            FileNotFoundError, ValueError: its PNG is missing, or does not fit the JSON or the dataset.
        """
        annotation = self.predictions[image_id]
        path = self.folder / PREDICTIONS / annotation["file_name"]
        segments = annotation["segments_info"]
        index = check_ids(read_id_map(path), [segment["id"] for segment in segments], source=str(path))
        if index.shape != self.ground_truth.size(image_id):
            raise ValueError(
                f"{path} has height×width {index.shape}, but the image has {self.ground_truth.size(image_id)}; the "
                f"predictions are not of the dataset {self.ground_truth.name!r} as it is now. Evaluate again."
            )
        return index, segments

    def review(self, image_id: Any) -> ImageReview:
        """One image's prediction against its annotation."""
        index, segments = self.prediction(image_id)
        truth, truth_segments = self.truth(image_id)
        return review_image(
            image_id,
            truth=truth,
            truth_segments=truth_segments,
            prediction=index,
            predicted_classes=[segment["category_id"] for segment in segments],
            predicted_iou=[segment.get("iou") for segment in segments],
            num_classes=len(self.vocabulary),
        )

    def _register(self, name: str) -> None:
        own: Mapping[str, Any] = (self.config or {}).get("DATASETS") or {}
        if own.get("CLASS_NAMES"):
            use_class_names([name], own["CLASS_NAMES"])
        if name in DatasetCatalog.list():
            return
        register_miniature()
        register_datasets()
        for key in ("PANOPTIC", "SEMANTIC", "UNNAMED"):
            register_from_config(own.get(key) or [], key)

    def _train_vocabulary(self) -> Vocabulary | None:
        config = self.config or {}
        name = (config.get("MODEL") or {}).get("TRAIN_VOCABULARY")
        if name:
            return Vocabulary.load(name)
        datasets = (config.get("DATASETS") or {}).get("TRAIN") or []
        if datasets:
            self._register(datasets[0])
            vocabulary = getattr(MetadataCatalog.get(datasets[0]), "vocabulary", None)
            return vocabulary if isinstance(vocabulary, Vocabulary) else None
        return None


def _require_object(content: Any, where: str) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} must be an object, but is {content!r:.80}; evaluate again.")


def _check_bootstrap(bootstrap: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError where "bootstrap" of results.json is not as `bootstrap_results` gives it."""
    if not bootstrap:
        return
    require_keys(bootstrap, ("resamples", "intervals"), f"{path}: bootstrap", "results.json")
    for key, length in (("best", 0), ("intervals", 2), ("differences", 3)):
        found = bootstrap.get(key) or {}
        _require_object(found, f"{path}: bootstrap.{key}")
        for ensemble, of in found.items() if length else ():
            _require_object(of, f"{path}: {ensemble} in bootstrap.{key}")
            for metric, values in of.items():
                numbers = isinstance(values, list) and all(value is None or is_number(value) for value in values)
                if not numbers or len(values) != length:
                    raise ValueError(
                        f"{path}: {metric} of {ensemble} in bootstrap.{key} must be {length} numbers, but is "
                        f"{values!r:.80}; evaluate again."
                    )
