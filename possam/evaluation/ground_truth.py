"""The annotations that evaluators score against: of any kind of dataset, one image at a time.

Shapes: H×W the image on disk, G annotated segments.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data.annotations import read_instances, read_label_map, read_segments
from possam.data.catalog import ANNOTATIONS
from possam.data.checks import require_id, require_keys, require_list
from possam.data.coco_format import LVIS
from possam.utils.files import read_json
from possam.vocabulary import Vocabulary

__all__ = ["GroundTruth"]


class GroundTruth:
    """A registered dataset, by image id.

    Each task has the annotation that the field scores it by: panoptic quality the panoptic PNG; semantic segmentation
    the dataset's own label map where an image has one, else the panoptic PNG; instances those of the dataset's own
    instance file (polygons or runs, which may overlap) where an image has them, else the things of the panoptic PNG.

    One object may serve several evaluators: the last image's maps are kept, so that they are decoded once for all.

    Attributes:
        tasks: the kinds of annotation it has, of `ANNOTATIONS`; all of them where its metadata does not say.
        federated: whether classes that an image's annotation does not name are unknown there, not absent (LVIS).
        class_split: the split (`possam.vocabulary.splits`) that divides its classes, or "".
    """

    def __init__(self, dataset_name: str) -> None:
        """
        Args:
            dataset_name: a dataset of the catalogs whose metadata has a ``vocabulary``.
        Raises:
            ValueError: no such dataset, or one without a vocabulary.
        """
        if dataset_name not in DatasetCatalog.list():
            raise ValueError(
                f"unknown dataset {dataset_name!r}; registered are {sorted(DatasetCatalog.list())}. "
                "Register it with possam.data.register_panoptic first."
            )
        self.name = dataset_name
        self.metadata = MetadataCatalog.get(dataset_name)
        if not isinstance(getattr(self.metadata, "vocabulary", None), Vocabulary):
            raise ValueError(
                f"dataset {dataset_name!r} has no vocabulary in its metadata; "
                "register it with possam.data.register_panoptic."
            )
        self.vocabulary: Vocabulary = self.metadata.vocabulary
        self.tasks: tuple[str, ...] = tuple(getattr(self.metadata, "tasks", ANNOTATIONS))
        self.federated = bool(getattr(self.metadata, "federated", False))
        self.class_split: str = getattr(self.metadata, "class_split", "")
        self._panoptic: tuple[Any, NDArray[np.int64], list[dict[str, Any]]] | None = None
        self._labels: tuple[Any, NDArray[np.int64]] | None = None

    @cached_property
    def records(self) -> dict[Any, dict[str, Any]]:
        """The dataset's dicts by image id, in its order; loaded when they are first asked for."""
        return {record["image_id"]: record for record in DatasetCatalog.get(self.name)}

    @cached_property
    def frequencies(self) -> tuple[str, ...] | None:
        """How frequent each class is in training, "r" (rare), "c" (common) or "f", as LVIS's annotation file says; ""
        for a class it says nothing of, and None for other datasets."""
        if not self.federated:
            return None
        path = self.metadata.json_file
        entries: Any = read_json(path).get("categories")
        require_list(entries, f"{path}: categories")
        for position, entry in enumerate(entries):
            where = f"{path}: categories[{position}]"
            require_keys(entry, ("id",), where, LVIS)
            require_id(entry["id"], f"{where}.id")
        letters = {entry["id"]: entry.get("frequency", "") for entry in entries}
        return tuple(letters.get(category.dataset_id, "") for category in self.vocabulary.categories)

    def record(self, image_id: Any) -> dict[str, Any]:
        """The dataset's dict of an image, in Detectron2's standard form.

        Raises:
            ValueError: the dataset has no such image.
        """
        if image_id not in self.records:
            raise ValueError(
                f"image id {image_id!r} is not in dataset {self.name!r} ({len(self.records)} images); "
                "evaluate a dataset with its own loader."
            )
        return self.records[image_id]

    def size(self, image_id: Any) -> tuple[int, int]:
        """(height, width) in pixels of the image on disk."""
        record = self.record(image_id)
        return int(record["height"]), int(record["width"])

    def index(self, image_id: Any) -> NDArray[np.int64]:
        """H×W int64, read-only: 0 for void, ``i + 1`` for ``segments(image_id)[i]``."""
        return self._segments(image_id)[0]

    def segments(self, image_id: Any) -> list[dict[str, Any]]:
        """The annotated segments of an image's panoptic PNG: ``category_id`` (contiguous), ``iscrowd`` …"""
        return self._segments(image_id)[1]

    def classes(self, image_id: Any) -> NDArray[np.int64]:
        """Contiguous class of each segment, G int64."""
        return np.array([segment["category_id"] for segment in self.segments(image_id)], dtype=np.int64)

    def crowds(self, image_id: Any) -> NDArray[np.bool_]:
        """Whether each segment is a crowd, G bool."""
        return np.array([segment["iscrowd"] for segment in self.segments(image_id)], dtype=bool)

    def areas(self, image_id: Any) -> NDArray[np.int64]:
        """Each segment's area in pixels as the annotation says, −1 where it does not; G int64."""
        return np.array([segment.get("area", -1) for segment in self.segments(image_id)], dtype=np.int64)

    def labels(self, image_id: Any) -> NDArray[np.int64]:
        """H×W int64, read-only: every pixel's contiguous class, −1 where there is none."""
        if self._labels is None or self._labels[0] != image_id:
            labels = read_label_map(
                self.record(image_id),
                ignore_label=getattr(self.metadata, "ignore_label", 255),
                num_classes=len(self.vocabulary),
            )
            labels.setflags(write=False)
            self._labels = (image_id, labels)
        return self._labels[1]

    def instances(self, image_id: Any) -> list[dict[str, Any]]:
        """The annotated instances of things: ``category_id`` (contiguous), ``iscrowd``, ``area`` in pixels as the
        annotation says, ``segmentation`` as a run-length dict of H×W."""
        return read_instances(self.record(image_id), isthing=self.vocabulary.isthing)

    def _segments(self, image_id: Any) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        if self._panoptic is None or self._panoptic[0] != image_id:
            index, segments = read_segments(self.record(image_id))
            index.setflags(write=False)
            self._panoptic = (image_id, index, segments)
        return self._panoptic[1], self._panoptic[2]
